"""silu of a norm on CPU: values and gradients are those of autodiff, in blocks of any size, and little is kept."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sora_jax.nn import norm_silu as module
from sora_jax.nn.norm import RMSNorm
from sora_jax.nn.norm_silu import norm_silu

EPSILON = 1e-6
AGREE = 2e-6  # of the largest value


def drawn(*shape, seed=0, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def by_autodiff(x, scale):
    y = x.astype(jnp.float32)
    y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + EPSILON) * scale
    return jax.nn.silu(y).astype(x.dtype)


def slopes(way, x, scale, ct):
    y, back = jax.vjp(way, x, scale)
    return y, *back(ct)


@pytest.mark.parametrize("block", [8, 100, 2**17])
@pytest.mark.parametrize("shape", [(2, 3, 4, 4, 8), (1, 5, 3, 7, 16), (11, 6), (1, 1, 64, 8), (5,), (2, 0, 4, 4, 8)])
def test_values_and_gradients_are_those_of_autodiff(monkeypatch, shape, block):
    monkeypatch.setattr(module, "BLOCK", block)
    x, scale, ct = 3 * drawn(*shape), 1 + 0.3 * drawn(shape[-1], seed=1), drawn(*shape, seed=2)
    want = slopes(by_autodiff, x, scale, ct)
    made = jax.jit(lambda *given: slopes(lambda x, scale: norm_silu(x, scale, EPSILON), *given))(x, scale, ct)
    for one, other in zip(want, made, strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
        np.testing.assert_allclose(other, one, atol=AGREE * np.abs(one).max(initial=0))


def test_in_bfloat16_it_is_taken_in_float32():
    x, ct = drawn(3, 40, 8, dtype=jnp.bfloat16), drawn(3, 40, 8, seed=2, dtype=jnp.bfloat16)
    scale = 1 + 0.3 * drawn(8, seed=1)
    want = slopes(by_autodiff, x, scale, ct)
    for one, other in zip(want, slopes(lambda x, scale: norm_silu(x, scale, EPSILON), x, scale, ct), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(other.astype(jnp.float32), one.astype(jnp.float32), rtol=0.01, atol=0.01)


def test_members_side_by_side_and_no_forward_mode():
    x, scale = drawn(2, 3, 16, 8), 1 + 0.3 * drawn(2, 8, seed=1)

    def total(x, scale):
        return jnp.sum(jnp.sin(norm_silu(x, scale, EPSILON)))

    both = jax.vmap(jax.grad(total, (0, 1)))(x, scale)
    again = jax.vmap(jax.grad(jax.checkpoint(total), (0, 1)))(x, scale)
    for k in range(2):
        for one, many, made in zip(jax.grad(total, (0, 1))(x[k], scale[k]), both, again, strict=True):
            np.testing.assert_allclose(many[k], one, atol=1e-5)
            np.testing.assert_allclose(made[k], one, atol=1e-5)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: norm_silu(x, scale[0], EPSILON), (x,), (x,))


def test_a_zero_has_a_gradient():
    back = jax.grad(lambda x: jnp.sum(norm_silu(x, jnp.ones(4), EPSILON)))(jnp.zeros((3, 4)))
    np.testing.assert_allclose(back, 0.5 / np.sqrt(EPSILON), rtol=1e-5)


@pytest.mark.parametrize("positions, width, count", [(147456, 32, 36), (36864, 64, 18), (768, 128, 1), (4099, 64, 1)])
def test_blocks_divide(positions, width, count):
    assert module.blocks(positions, width) == count


def test_little_is_made_and_kept():
    """Of four layers each keeps its input and a number per position, and no array of zeros is written to."""
    x, scales = jax.ShapeDtypeStruct((1, 8, 64, 64, 32), jnp.float32), jnp.ones((4, 32))

    def total(x, scales):
        for scale in scales:
            x = norm_silu(x, scale, EPSILON)
        return jnp.sum(x * x)

    made = jax.jit(jax.grad(total)).lower(x, scales).compile().memory_analysis().temp_size_in_bytes
    assert made < 4.2 * 4 * 8 * 64 * 64 * 32


def test_the_norm_takes_it_on_cpu(monkeypatch):
    layer = RMSNorm(8, rngs=nnx.Rngs(0))
    x = drawn(3, 4, 8)
    np.testing.assert_array_equal(layer.silu(x), norm_silu(x, layer.scale[...], layer.epsilon))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    np.testing.assert_array_equal(layer.silu(x), jax.nn.silu(layer(x)))
