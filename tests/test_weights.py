"""Weights survive a file bit for bit, carry their meaning with them, and a damaged file is an error in words."""
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from sora_jax import weights
from sora_jax.types import InputError


@pytest.fixture
def params():
    return toy.run(data=2, fsdp=4).initial().params


def test_round_trip_keeps_bits_structure_and_meta(tmp_path, params):
    meta = {"config": {"stage": "dit", "patch": [1, 2]}, "id": "a/1"}
    found = weights.save_weights(tmp_path / "new" / "w.safetensors", params, meta)
    tree, back = weights.load_weights(tmp_path / "new" / "w.safetensors")
    assert back == {**meta, "hash": found} and found == weights.weights_hash(params) == weights.weights_hash(tree)
    assert set(tree["scales"]) == {0}
    np.testing.assert_array_equal(tree["scales"][0], params["scales"][0])


def test_half_precision_halves_the_file_and_hashes_what_is_read(tmp_path, params):
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    weights.save_weights(whole, params, {})
    found = weights.save_weights(half, params, {}, storage="float16")
    tree, meta = weights.load_weights(half)
    assert tree["up"].dtype == np.float32 and meta["hash"] == found == weights.weights_hash(tree)
    np.testing.assert_allclose(tree["up"], params["up"], rtol=1e-3)
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    with pytest.raises(InputError, match="big does not fit float16"):
        weights.save_weights(half, {"big": jnp.full(2, 1e6)}, {}, storage="float16")


def test_what_is_not_finite_is_not_written(tmp_path):
    with pytest.raises(InputError, match="a/b holds NaN"):
        weights.save_weights(tmp_path / "w.safetensors", {"a": {"b": jnp.asarray([1.0, jnp.nan])}}, {})
    assert not list(tmp_path.iterdir())


def test_the_hash_sees_values_names_shapes_and_types():
    base = {"a": np.arange(6, dtype=np.float32), "b": np.zeros(2, np.float32)}
    others = [{**base, "a": base["a"] + 1e-6}, {"aa": base["a"], "b": base["b"]},
              {**base, "a": base["a"].reshape(2, 3)}, {**base, "b": np.zeros(2, np.int32)}]
    hashes = [weights.weights_hash(tree) for tree in (base, *others)]
    assert len(set(hashes)) == 5
    assert weights.weights_hash(dict(reversed(base.items()))) == hashes[0]
    turned = base["a"].reshape(2, 3).T
    assert weights.weights_hash({"a": turned}) == weights.weights_hash({"a": turned.copy()})


@pytest.mark.parametrize("damage, words", [
    (lambda data: data[: len(data) // 2], "not a readable safetensors"),
    (lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], "is damaged"),
    (lambda data: data.replace(b"colour", b"colour".upper()), "is damaged"),
    (lambda data: b"", "not a readable safetensors"),
])
def test_damage_is_named(tmp_path, params, damage, words):
    path = tmp_path / "w.safetensors"
    weights.save_weights(path, params, {"note": "colour"})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=words) as caught:
        weights.load_weights(path)
    assert "\n" not in str(caught.value)


def test_no_file_is_named(tmp_path):
    with pytest.raises(InputError, match="no such weights file"):
        weights.load_weights(tmp_path / "none.safetensors")
