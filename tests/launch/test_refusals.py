"""Folders of videos that an autoencoder cannot take: the doors say which file, and end with one line."""
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from test_doors import knock

from configs import smoke
from sora_jax import build, video, weights

FILMS = {"short/a": (2, 32), "films/a": (9, 32), "films/b": (9, 48)}


@pytest.fixture(scope="module")
def tmp(tmp_path_factory):
    """A fresh autoencoder of 2×8×8 as a weights file, and folders of videos."""
    folder, config = tmp_path_factory.mktemp("refusals"), smoke.get_config("vae")
    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), build.graph(config)[1])
    weights.save_weights(folder / "vae.safetensors", params, {"config": json.loads(build.to_json(config))})
    for name, (frames, side) in FILMS.items():
        path = folder / f"{name}.mp4"
        path.parent.mkdir(exist_ok=True)
        video.write_mp4(path, np.zeros((frames, side, side, 3), np.uint8), 8.0, scale=1)
    return folder


@pytest.mark.parametrize("arguments, words", [
    (["evaluate", "--run={tmp}/vae.safetensors", "--videos={tmp}/short", "--out={tmp}/evaluation"],
     "set aside as short: 'a.mp4' has"),
    (["encode", "--config=configs/vae.py", "--config.data.name=videos", "--config.data.path={tmp}/films",
      "--config.data.fit=native", "--config.data.frames=3", "--vae={tmp}/vae.safetensors", "--splits=train",
      "--clips=2", "--out={tmp}/native"], "clips of one batch have one size: set data.fit=center"),
], ids=["evaluate", "encode"])
def test_a_folder_that_cannot_be_used_is_one_line(tmp: Path, arguments, words):
    code, _, errors, _ = knock([part.format(tmp=tmp) for part in arguments])
    assert code == 2 and "Traceback" not in errors, errors
    last = errors.strip().splitlines()[-1]
    assert last.rpartition("error: ")[1] and words in last and (".mp4" in last), errors
