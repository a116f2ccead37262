"""The explicit path equals the library's, masked or not, forward and backward."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from sora_jax.nn.attention import attention, explicit

TOLERANCE = 2e-6


def library(q, k, v, mask=None):
    return jax.nn.dot_product_attention(q, k, v, mask=None if mask is None else mask[:, None])


@pytest.mark.parametrize("queries", [None, 1, 5])
def test_explicit_equals_library(key, queries):
    keys = jax.random.split(key, 4)
    q, k, v = (jax.random.normal(keys[i], (2, 5 if i == 0 else 7, 3, 8)) for i in range(3))
    mask = None if queries is None else jax.random.bernoulli(keys[3], 0.5, (2, queries, 7)).at[:, :, 0].set(True)
    both = (jax.value_and_grad(lambda *x, f=f: jnp.sum(jnp.sin(f(*x, mask))), (0, 1, 2)) for f in (explicit, library))
    one, other = (jax.jit(f, compiler_options=tiny.AS_USERS)(q, k, v) for f in both)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=TOLERANCE, rtol=TOLERANCE), one, other)


def test_masked_keys_have_no_say(key):
    q, k, v = jax.random.normal(key, (3, 1, 4, 2, 8))
    mask = jnp.array([True, True, False, True])[None, None]
    changed = attention(q, k.at[:, 2].add(5.0), v.at[:, 2].add(5.0), mask)
    np.testing.assert_array_equal(attention(q, k, v, mask), changed)
    assert jnp.abs(attention(q, k, v) - changed).max() > 0.01


def test_half_precision_softmax_is_single(key):
    q, k, v = jax.random.normal(key, (3, 1, 64, 2, 8))
    half = attention(*(x.astype(jnp.bfloat16) for x in (q, k, v)))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), attention(q, k, v), atol=0.03)
