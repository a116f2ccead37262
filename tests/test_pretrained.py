"""The published feature weights: refused if absent or damaged; if present, they know what they see."""
import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from films import CARPHONE
from flax import nnx

from configs import smoke
from sora_jax import build, pretrained, validation, video
from sora_jax.models import features
from sora_jax.scaling import identity
from sora_jax.types import ConfigError, InputError

needs_weights = pytest.mark.skipif(not pretrained.available(), reason=f"no feature weights: {pretrained.COMMAND}")
DRESSED = {457, 906, 834, 785}  # bow tie, Windsor tie, suit, seat belt


def test_what_is_not_the_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no feature weights at .*; get them with python -m launch.features"):
        pretrained.features(tmp_path / "none.pth")
    (tmp_path / "other.pth").write_bytes(b"other")
    with pytest.raises(InputError, match="is not the published file .*python -m launch.features"):
        pretrained.features(tmp_path / "other.pth")


def test_every_reader_looks_at_the_path_of_the_moment(monkeypatch, tmp_path):
    path = tmp_path / "net.pth"
    monkeypatch.setattr(pretrained, "PATH", path)
    with pytest.raises(InputError, match="no feature weights at .*net.pth"):
        pretrained.features()
    assert not pretrained.available()
    path.write_bytes(b"whole")
    monkeypatch.setattr(pretrained, "SHA256", hashlib.sha256(b"whole").hexdigest())
    seen = []
    monkeypatch.setattr(pretrained.torch_file, "read", lambda path: seen.append(path) or {})
    with pytest.raises(InputError, match="feature weights lack _conv_stem.weight"):
        pretrained.features()
    assert pretrained.available() and seen == [path]


def test_a_network_is_kept_by_the_path_it_came_from(monkeypatch, tmp_path):
    monkeypatch.setattr(pretrained, "checked", lambda path: path)
    monkeypatch.setattr(pretrained.torch_file, "read", lambda path: {})
    monkeypatch.setattr(features, "from_arrays", lambda arrays: nnx.Module())
    found = []
    for name in ("a.pth", "b.pth", "a.pth"):
        monkeypatch.setattr(pretrained, "PATH", tmp_path / name)
        found.append(pretrained.features())
    assert found[0] is found[2] and found[0] is not found[1]
    assert pretrained.features(tmp_path / "b.pth") is found[1]


def test_a_loss_of_features_needs_them_where_it_trains_and_not_where_it_is_planned(monkeypatch, tmp_path):
    config = smoke.get_config("vae")
    plain, name = build.forward_flops(config), identity.run_id(config.to_dict())
    with config.unlocked():
        del config.objective.perceptual_weight, config.objective.temporal_weight
    assert identity.run_id(config.to_dict()) == name, "a neutral weight is not part of a run's name"
    config = smoke.get_config("vae")
    config.objective.perceptual_weight = 0.1
    assert identity.run_id(config.to_dict()) != name
    monkeypatch.setattr(pretrained, "PATH", tmp_path / "none.pth")
    validation.validate(config, here=False)
    with pytest.raises(ConfigError, match="perceptual_weight=0.1: no feature weights at .*launch.features"):
        validation.validate(config)
    assert build.objective(config) == build.objective(config)
    assert build.objective(config).perceptual == pretrained.Distance()
    one = features.flops(features.Config(), 16, 16, pretrained.STAGES - 1)["features"]
    assert build.forward_flops(config) == plain | {"features": 3 * one}


@needs_weights
def test_a_man_in_a_suit_at_the_wheel():
    frames = video.read(CARPHONE)[0][:60:15]
    frames = np.stack([video.resize_area(video.crop_center(f, 144, 144), 144, 144) for f in frames])
    network = pretrained.features()
    logits = np.asarray(jax.jit(lambda x: network.logits(x))(video.to_float(jnp.asarray(frames))))
    best = logits.argsort(-1)[:, :-4:-1]
    assert set(best.ravel().tolist()) <= DRESSED, best


@needs_weights
def test_the_distance_grows_with_damage_and_its_gradient_mends():
    pretrained.loaded.cache_clear()  # so that the weights are read while the loss is traced
    rng, distance = np.random.default_rng(0), pretrained.Distance()
    x = jnp.asarray(np.kron(rng.uniform(-1, 1, (1, 2, 4, 4, 3)), np.ones((1, 1, 8, 8, 1))), jnp.float32)
    noise = jnp.asarray(rng.normal(size=x.shape), jnp.float32)
    measure = jax.jit(jax.value_and_grad(distance, argnums=1))
    found = [measure(x, x + level * noise) for level in (0.0, 0.02, 0.1, 0.5)]
    values = [float(value) for value, _ in found]
    assert values[0] < 1e-6 and values == sorted(values) and 0.1 < values[-1] < 4
    assert all(np.isfinite(slope).all() for _, slope in found) and jnp.sum(found[2][1] * noise) > 0
    assert distance == pretrained.Distance() and hash(distance) == hash(pretrained.Distance())
