"""The whole chain from empty folders: clips, autoencoder, latents, transformer, record, sample."""
import json

import numpy as np
import pytest

from configs import smoke
from sora_jax import encoding, judge, pipeline
from sora_jax.scaling import records as ledger
from sora_jax.train import loop
from sora_jax.types import ConfigError, InputError

CLIPS = 2


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("chain")


@pytest.fixture(scope="module")
def coder(root):
    loop.run(smoke.get_config("vae"), root / "vae")
    return root / "vae" / "weights.safetensors"


@pytest.fixture(scope="module")
def trained(root, coder):
    config = smoke.get_config("vae")
    vae, meta = pipeline.autoencoder(coder)
    for split in ("train", "val"):
        encoding.encode(config, vae, meta, split, 32, encoding.Options(root / "latents", batch=8, shard=16))
    config = smoke.get_config("dit")
    config.data.path, config.vae.weights, config.eval.velocity = str(root / "latents"), str(coder), CLIPS
    loop.run(config, root / "dit")
    return root / "dit"


def test_every_stage_leaves_its_record_and_its_pictures(root, trained):
    for run in (root / "vae", trained):
        records = ledger.read(run / "records.jsonl")
        assert records and all(np.isfinite(record["val_loss"]) for record in records)
        assert (run / "curve.png").stat().st_size > 1000
        assert json.loads((run / "config.json").read_text())["stage"] == ("vae" if run.name == "vae" else "dit")
    assert list((root / "vae" / "media").glob("reconstructions*"))


def test_every_annealed_point_carries_its_motion(trained):
    for record in ledger.read(trained / "records.jsonl"):
        lost = [record["metrics"][f"velocity_{split}_lost"] for split in judge.MOTIONS]
        assert all(share in (0, 0.5, 1) for share in lost)
        assert [f"velocity_{split}" in record["metrics"] for split in judge.MOTIONS] == [share < 1 for share in lost]


def test_motion_that_cannot_be_measured_is_refused_before_training(root, trained, coder):
    config = smoke.get_config("dit")
    config.data.path, config.eval.velocity = str(root / "latents"), CLIPS
    config.vae.weights = "experiments/000_autoencoder/weights.safetensors"
    with pytest.raises(InputError, match="the model was trained on the latents of"):
        loop.run(config, root / "other")
    config.eval.velocity = -1
    with pytest.raises(ConfigError, match="eval.velocity=-1"):
        loop.run(config, root / "other")
    config = smoke.get_config("vae")
    config.eval.velocity = CLIPS
    with pytest.raises(ConfigError, match="eval.velocity=2 for stage='vae'"):
        loop.run(config, root / "other")


def test_what_was_trained_draws(trained):
    pipe = pipeline.Pipeline.open(trained)
    data = pipe.config.data
    clips = pipe.sample(["a red circle moves right", "two blue squares"], steps=2)
    assert clips.shape == (2, data.frames, data.height, data.width, 3) and clips.dtype == np.uint8


def test_latents_of_another_autoencoder_are_refused(root, trained, coder):
    config = smoke.get_config("vae")
    vae, meta = pipeline.autoencoder(coder)
    with pytest.raises(InputError, match="vae_hash"):
        encoding.encode(config, vae, meta | {"hash": "0" * 16}, "train", 32, encoding.Options(root / "latents", 8, 16))
