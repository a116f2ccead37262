"""Schedules are pure functions of the absolute step; decay touches matrices only."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from flax import nnx, traverse_util

from configs import smoke, vae
from sora_jax import build, mesh
from sora_jax.train import optimizer, state
from sora_jax.types import ConfigError


def values(*args, until=None, **kwargs):
    return optimizer.schedule(*args, **kwargs)(np.arange(until or args[1]))


def test_warmup_constant_cooldown():
    lr = values(2.0, 100, 0.1, 0.2, "linear")
    np.testing.assert_allclose(lr[:10], 2.0 * np.arange(1, 11) / 10, rtol=1e-6)
    np.testing.assert_allclose(lr[10:81], 2.0)
    np.testing.assert_allclose(lr[80:], 2.0 * (1 - np.arange(20) / 20), rtol=1e-5)


def test_square_root_shape_falls_fast_then_slowly():
    lr = values(1.0, 100, 0.0, 0.5, "1-sqrt")
    np.testing.assert_allclose(lr[50:], 1 - np.sqrt(np.arange(50) / 50), atol=1e-6)


def test_a_branch_is_its_trunk_until_it_cools_down():
    trunk = values(1.0, 1000, 0.05, 0.0)
    for start in (200, 640):
        end = round(start / 0.8)
        assert optimizer.cooling(end, 0.2) == start
        branch = values(1.0, 1000, 0.05, 0.2, "linear", end, until=end + 3)
        np.testing.assert_array_equal(branch[:start], trunk[:start])
        assert end - start == pytest.approx(0.2 * end, abs=1)
        assert branch[start] == 1.0 and branch[start + 1] < 1.0 and branch[end - 1] > 0
        np.testing.assert_array_equal(branch[end:], 0)


def test_a_branch_at_the_usual_point_is_the_annealed_run():
    np.testing.assert_array_equal(values(1.0, 500, 0.02, 0.2), values(1.0, 500, 0.02, 0.2, end=500))


@pytest.mark.parametrize("kwargs, words", [
    ({"shape": "cosine"}, "optimizer.shape='cosine'"), ({"warmup": 1.5}, "optimizer.warmup=1.5"),
    ({"end": 11}, "inside the warm-up"), ({"lr": 0.0}, "optimizer.lr=0.0"),
])
def test_bad_schedules_are_one_line(kwargs, words):
    with pytest.raises(ConfigError, match=words) as caught:
        optimizer.schedule(**{"lr": 1.0, "steps": 100, "warmup": 0.1, **kwargs})
    assert "\n" not in str(caught.value)


def test_decay_touches_matrices_only_and_layers_are_not_an_axis():
    decayed = optimizer.matrices(state.split(toy.run().make)[1])
    assert decayed == {"up": True, "down": True, "bias": False, "scales": {0: False}}
    params = {"m": jnp.ones((2, 2)), "v": jnp.ones(2)}
    tx = optimizer.adamw(weight_decay=0.1, decayed={"m": True, "v": False})
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    np.testing.assert_allclose(updates["m"], 0.1, rtol=1e-6)
    np.testing.assert_array_equal(updates["v"], 0)


def test_gradients_are_clipped_by_their_global_norm():
    params = {"a": jnp.zeros(3), "b": jnp.zeros(4)}
    tx = optimizer.adamw(clip=1.0)
    _, opt = tx.update(jax.tree.map(lambda p: p + 100, params), tx.init(params), params)
    assert float(jnp.sqrt(sum(jnp.sum(m ** 2) for m in jax.tree.leaves(opt[1].mu)))) == pytest.approx(0.1, rel=1e-5)


@pytest.fixture(scope="module")
def shapes():
    return state.split(lambda: build.make(smoke.get_config("dit")))[1]


def test_muon_takes_the_hidden_matrices_of_the_blocks_and_nothing_else(shapes):
    marked = traverse_util.flatten_dict(optimizer.hidden(shapes), sep="/")
    taken = {name for name, value in marked.items() if value}
    assert {f"blocks/{name}/kernel" for name in ("qkv", "out", "cross_q", "cross_out", "up", "down")} <= taken
    assert all(name.endswith("kernel") and name.startswith(("blocks/", "text/layers/")) for name in taken)
    assert not any("modulation" in name or "cross_kv" in name for name in taken)


def test_muon_orthogonalises_each_layer_and_leaves_the_rest_to_adam(shapes):
    params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), nnx.to_pure_dict(shapes))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    grads = jax.tree.unflatten(
        tree, [jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)])
    updates = {}
    for name, muon in (("adam", 0.0), ("muon", 2.0)):
        tx = optimizer.adamw(muon=muon, hidden=optimizer.hidden(shapes))
        updates[name] = traverse_util.flatten_dict(tx.update(grads, tx.init(params), params)[0], sep="/")
    for name, marked in traverse_util.flatten_dict(optimizer.hidden(shapes), sep="/").items():
        got = updates["muon"][name]
        if not marked:
            np.testing.assert_array_equal(got, updates["adam"][name], err_msg=name)
            continue
        wide = max(1.0, got.shape[2] / got.shape[1]) ** 0.5
        for layer in got:  # Newton-Schulz of five steps leaves singular values between about 0.7 and 1.2
            values = np.linalg.svd(np.asarray(layer) / (2.0 * wide), compute_uv=False)
            assert values.min() > 0.5 and values.max() < 1.3, (name, values)


def test_muon_orthogonalises_every_tap_of_a_convolution():
    _, shapes = state.split(lambda: build.make(vae.get_config()))
    marked = {"/".join(map(str, path)): taken
              for path, taken in traverse_util.flatten_dict(optimizer.hidden(shapes)).items()}
    kernels = {name for name, taken in marked.items() if taken}
    assert kernels == {name for name in marked if name.endswith("/weight")} and len(marked) > len(kernels) > 10
    grads = {"kernel": jax.random.normal(jax.random.key(0), (3, 1, 2, 5, 20))}
    tx = optimizer.orthogonal(2.0)
    kernel = np.asarray(tx.update(grads, tx.init(grads), grads)[0]["kernel"])
    values = np.linalg.svd(kernel / (2.0 * 2.0 * 6 ** -0.5), compute_uv=False)
    assert values.shape == (3, 1, 2, 5) and values.min() > 0.5 and values.max() < 1.3, values


def test_a_moment_lies_where_its_weight_lies(shapes):
    tx, eight = optimizer.adamw(muon=8.0, hidden=optimizer.hidden(shapes)), mesh.make(data=2, fsdp=4)
    made = state.shardings(shapes, tx, eight)
    placed = {jax.tree_util.keystr(path): leaf.spec for path, leaf in jax.tree_util.tree_leaves_with_path(made.opt)}
    weights = {jax.tree_util.keystr(path): leaf.spec for path, leaf in jax.tree_util.tree_leaves_with_path(made.params)}
    for name, spec in weights.items():
        moments = [place for path, place in placed.items() if path.endswith(name)]
        assert moments and set(moments) == {spec}, name
    assert any("fsdp" in spec for spec in weights.values())


def test_a_negative_rate_of_muon_is_one_line():
    with pytest.raises(ConfigError, match="optimizer.muon=-1.0 not negative"):
        optimizer.adamw(muon=-1.0)
