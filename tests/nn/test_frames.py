"""Layers of single frames: a convolution of doubled frames is that of conv2d, in half of the work."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sora_jax.nn.frames import DoubledConv

AGREE = 5e-5


@pytest.mark.parametrize("height, width", [(6, 4), (5, 7), (1, 2)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_convolution_of_doubled_frames_doubles_none(height, width, dtype):
    layer = DoubledConv(3, 4, impl="taps", rngs=nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, height, width, 3)), dtype)
    mark = np.random.default_rng(1).normal(size=(6, 2 * height, 2 * width, 4)).astype(np.float32)
    weight = layer.weight[...].astype(dtype)
    graph, state = nnx.split(layer)

    def native(weight, x):
        doubled = jnp.repeat(jnp.repeat(x.reshape(6, height, width, 3), 2, 1), 2, 2)
        y = jax.lax.conv_general_dilated(doubled, weight, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jnp.sum(jnp.sin(y.astype(jnp.float32)) * mark)

    def ours(weight, x):
        made = nnx.merge(graph, {**state, "weight": state["weight"].replace(weight)})
        return jnp.sum(jnp.sin(made(x).reshape(mark.shape).astype(jnp.float32)) * mark)

    within = AGREE if dtype == jnp.float32 else 0.05
    for one, other in zip(jax.grad(native, (0, 1))(weight, x), jax.grad(ours, (0, 1))(weight, x), strict=True):
        assert one.dtype == other.dtype
        scale = np.abs(np.asarray(one, np.float32)).max()
        np.testing.assert_allclose(np.asarray(other, np.float32), np.asarray(one, np.float32), atol=within * scale)


def test_it_is_half_of_the_work():
    x = jnp.zeros((1, 2, 8, 8, 16))
    work = {}
    for impl in ("native", "taps"):
        layer = DoubledConv(16, 8, impl=impl, rngs=nnx.Rngs(0))
        work[impl] = jax.jit(layer.__call__).lower(x).compile().cost_analysis()["flops"]
    assert work["taps"] < 0.6 * work["native"]
