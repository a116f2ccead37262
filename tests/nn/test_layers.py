"""The small layers: named weights, flat Dense, normalisations, sinusoids."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sora_jax.nn import embed
from sora_jax.nn.axes import param
from sora_jax.nn.linear import Linear
from sora_jax.nn.norm import RMSNorm, layer_norm, modulate

TOLERANCE = 1e-5


def test_a_weight_carries_its_names(key):
    weight = param(key, nnx.initializers.zeros, (2, 3), ("embed", None))
    assert weight.get_metadata()["out_sharding"] == ("embed", None)


@pytest.mark.parametrize("axes", [("embed",), ("embed", "nowhere"), ("embed", "mlp", None)])
def test_wrong_names_are_refused(key, axes):
    with pytest.raises(ValueError, match="do not name"):
        param(key, nnx.initializers.zeros, (2, 3), axes)


def test_linear_is_the_affine_map_on_any_leading_axes(key):
    layer = Linear(4, 6, axes=("embed", "mlp"), rngs=nnx.Rngs(0))
    layer.bias[...] = jnp.arange(6.0)
    x = jax.random.normal(key, (2, 3, 5, 4))
    want = np.einsum("abci,io->abco", x, layer.kernel[...]) + np.arange(6.0)
    np.testing.assert_allclose(layer(x), want, atol=TOLERANCE)
    assert Linear(4, 6, axes=("embed", "mlp"), bias=False, rngs=nnx.Rngs(0)).bias is None
    assert layer(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_stored_rows_are_the_same_rows_by_one_matmul(key):
    layer = Linear(4, 6, axes=("embed", "mlp"), rngs=nnx.Rngs(0))
    layer.bias[...] = jnp.arange(6.0)
    x = jax.random.normal(key, (2, 3, 4))
    graph, weights = nnx.split(layer)

    def loss(weights, x, name):
        return jnp.sin(getattr(nnx.merge(graph, weights), name)(x)).sum()

    np.testing.assert_allclose(layer.stored(x), layer(x), atol=1e-6)
    here, there = (jax.tree.leaves(jax.value_and_grad(loss, (0, 1))(weights, x, name))
                   for name in ("stored", "__call__"))
    for one, other in zip(here, there, strict=True):  # under a gradient not a bit is other
        np.testing.assert_array_equal(one, other)
    if jax.default_backend() == "cpu":
        said = jax.jit(lambda weights, x: nnx.merge(graph, weights).stored(x)).lower(weights, x).as_text()
        assert "stablehlo.add" not in said and said.count("stablehlo.dot_general") == 1
    plain = Linear(4, 6, axes=("embed", "mlp"), bias=False, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(plain.stored(x), plain(x))


def test_norms_normalise(key):
    x = 5 + 3 * jax.random.normal(key, (7, 64))
    np.testing.assert_allclose(jnp.mean(jnp.square(RMSNorm(64, rngs=nnx.Rngs(0))(x)), -1), 1.0, rtol=TOLERANCE)
    y = layer_norm(x)
    np.testing.assert_allclose(y.mean(-1), 0.0, atol=TOLERANCE)
    np.testing.assert_allclose(y.std(-1), 1.0, rtol=TOLERANCE)
    np.testing.assert_allclose(modulate(x, jnp.full((1, 64), 2.0), jnp.full((1, 64), 0.5)), 1.5 * x + 2, rtol=TOLERANCE)


@pytest.mark.parametrize("width", [2, 6, 8, 24, 256])
def test_positions_are_told_apart(width):
    assert sum(embed.axis_widths(width)) == width and all(w % 2 == 0 for w in embed.axis_widths(width))
    places = jnp.stack(jnp.meshgrid(*[jnp.arange(4.0)] * 3, indexing="ij"), -1).reshape(-1, 3)
    features = np.asarray(embed.sincos(places, width))
    assert features.shape == (64, width)
    if width >= 6:
        gaps = np.linalg.norm(features[:, None] - features[None], axis=-1) + 10 * np.eye(64)
        assert gaps.min() > 0.1


def test_timesteps_are_dit_s(key):
    t = jax.random.uniform(key, (5,))
    frequency = np.exp(-np.log(10_000) * np.arange(4) / 4)
    angle = 1000 * np.asarray(t)[:, None] * frequency
    np.testing.assert_allclose(embed.timestep(t, 8), np.concatenate([np.cos(angle), np.sin(angle)], 1), atol=1e-3)
