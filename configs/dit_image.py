"""The class-conditional transformer of Peebles and Xie 2023 (arXiv 2212.09748): `--config=configs/dit_image.py:XL/2`.

Sizes S, B, L, XL with patches of 2, 4 or 8 latents, on 256×256 images through an autoencoder of 8×8 and 4 channels:
adaLN-Zero fed by the noise level plus the class, fixed positions in two dimensions, DDPM with linear betas.
"""
from ml_collections import ConfigDict

from configs import base, ladder


def get_config(name: str = "XL/2") -> ConfigDict:
    """A run of that size and patch. ValueError for a name that is none."""
    size, _, patch = name.partition("/")
    if size not in ("S", "B", "L", "XL") or patch not in ("2", "4", "8"):
        raise ValueError(f"no DiT-{name}; sizes are S, B, L, XL and patches 2, 4, 8, e.g. XL/2")
    config = ladder.resize(base.get_config(), size)
    config.name = f"dit-{size}-{patch}"
    config.data.name, config.data.path = "latents", "runs/image_latents"
    config.data.frames, config.data.height, config.data.width = 1, 256, 256
    config.vae.weights, config.vae.channels = "", 4
    model = config.model
    model.patch = (1, int(patch), int(patch))
    model.text, model.pooled, model.qk_norm, model.positions = "none", "direct", "none", "sincos-2d"
    model.time_shift = -1.0  # steps of the chain are counted from 0
    config.text.name, config.text.width = "labels", model.width
    config.text.length, config.text.pool, config.text.depth = 2, 2, 0
    config.text.classes = 1000
    config.objective = objective = ConfigDict()
    objective.name, objective.steps, objective.beta_min, objective.beta_max = "ddpm", 1000, 1e-4, 0.02
    objective.kind, objective.caption_drop, objective.known = "eps", 0.1, (1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    config.sampler.name, config.sampler.steps, config.sampler.guidance = "ddpm", 250, 4.0
    return config
