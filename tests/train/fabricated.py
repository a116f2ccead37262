"""Latents that no autoencoder made: random arrays of the shape that the smoke config describes, with captions."""
from pathlib import Path

import numpy as np

from configs import smoke
from sora_jax import build
from sora_jax.datasets import latents as shelf
from sora_jax.models import text

HASH, CLIPS = "fabricated", 32
WORDS = ("a red circle moves right", "a blue square moves left", "two green triangles", "")


def latents(folder: Path, frames: int = 0, vae_hash: str = HASH) -> Path:
    """Train and val splits in `folder`, a function of the arguments alone; `frames` in pixels, 0: as configured."""
    config, rng = smoke.get_config("dit"), np.random.default_rng(0)
    config.data.frames = frames or config.data.frames
    captions = [WORDS[i % len(WORDS)] for i in range(CLIPS)]
    bytes_, mask = text.tokenize(captions, config.text.length)
    for split in ("train", "val"):
        x = rng.normal(size=(CLIPS, *build.latent_shape(config))).astype(np.float32)
        chunk = shelf.Chunk(x, bytes_[:, None], mask[:, None], [[caption] for caption in captions])
        shelf.write(folder / split, [lambda chunk=chunk: chunk], {"vae_hash": vae_hash, "data": {}, "dtype": "float32"})
    return folder
