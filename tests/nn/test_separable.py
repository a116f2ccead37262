"""Separable convolutions: the sum of shifted products is the grouped convolution, padded at the end where odd."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from sora_jax.nn import separable

SAME = 1e-5


@pytest.mark.parametrize("kernel, stride, size", [(3, 1, 7), (3, 2, 8), (3, 2, 7), (5, 2, 8), (5, 2, 9), (5, 1, 6),
                                                  (5, 2, 2), (3, 2, 1)])
def test_shifts_are_the_grouped_convolution(kernel, stride, size):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, size, size + 3, 4)), jnp.float32)
    weight = jnp.asarray(rng.normal(size=(kernel, kernel, 4)), jnp.float32)
    shifts, native = (separable.depthwise(x, weight, stride, impl) for impl in ("shifts", "native"))
    assert shifts.shape == (2, -(-size // stride), -(-(size + 3) // stride), 4)
    np.testing.assert_allclose(shifts, native, atol=SAME)
    slopes = [jax.grad(lambda w, i=impl: (separable.depthwise(x, w, stride, i) ** 2).sum())(weight)
              for impl in ("shifts", "native")]
    np.testing.assert_allclose(*slopes, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size, kernel, stride, want", [(224, 3, 2, (0, 1)), (225, 3, 2, (1, 1)), (8, 5, 2, (1, 2)),
                                                        (7, 3, 1, (1, 1)), (1, 1, 2, (0, 0))])
def test_padding_by_hand(size, kernel, stride, want):
    assert separable.padding(size, kernel, stride) == want


def test_one_pixel_is_a_matrix_product():
    rng = np.random.default_rng(0)
    x, weight = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((1, 3, 5, 4), (1, 1, 4, 6)))
    want = lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_allclose(separable.conv(x, weight, 1), want, atol=SAME)
