"""The weight gradient of fewer multiplications is that of conv3d in blocks of any size, and makes no copy of a clip."""
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.nn import winograd_slope

AGREE = 5e-6  # of the largest value


def drawn(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def edges(size):
    return tuple((k // 2, (k - 1) // 2) for k in size)


@pytest.mark.parametrize("cells", [4, 24, 200])
@pytest.mark.parametrize("height, width", [(4, 9), (7, 5), (8, 8), (3, 11), (13, 4)])
@pytest.mark.parametrize("size, frames, before", [((3, 3), 9, 2), ((2, 5), 9, 2), ((3, 3), 7, 0), ((3, 2), 4, 1),
                                                  ((3, 3), 1, 2)])
def test_blocks_of_any_size_give_the_gradient(monkeypatch, size, frames, before, height, width, cells):
    """Blocks of a column or some, of one tile of rows or more, which do not divide the frame."""
    monkeypatch.setattr(winograd_slope, "CELLS", cells)
    monkeypatch.setattr(winograd_slope, "DEEP", 1)
    monkeypatch.setattr(winograd_slope, "WORTH", 1)
    x, ct = drawn(2, frames, height, width, 4), drawn(2, frames + before - 2, height, width, 3, seed=1)
    made = winograd_slope.weight_slope(x, ct, size, edges(size), before)
    _, back = jax.vjp(lambda weight: jax.lax.conv_general_dilated(
        x, weight, (1, 1, 1), ((before, 0), *edges(size)), dimension_numbers=("NDHWC", "DHWIO", "NDHWC")),
        jnp.zeros((3, *size, 4, 3)))
    want, = back(ct)
    assert made.shape == want.shape and np.abs(want).max() > 1
    assert np.abs(made - want).max() <= AGREE * np.abs(want).max()


def test_a_window_reaches_over_all_edges():
    x = drawn(5, 7)
    padded = np.pad(x, ((2, 3), (1, 2)))
    cut = jax.jit(lambda i, j: winograd_slope.window(x, (i, j), (4, 3), ((2, 3), (1, 2))))
    for i, j in itertools.product(range(-2, 5), range(-1, 7)):
        np.testing.assert_array_equal(cut(i, j), padded[i + 2 : i + 6, j + 1 : j + 4])
    larger = jax.jit(lambda i, j: winograd_slope.window(x, (i, j), (6, 8), ((2, 3), (1, 2))))
    for i, j in itertools.product(range(-2, 3), range(-1, 2)):
        np.testing.assert_array_equal(larger(i, j), padded[i + 2 : i + 8, j + 1 : j + 9])


def test_what_it_needs_does_not_grow_with_the_clip():
    """A padded copy of `x` would be made when `x` is, and be kept until the backward pass."""
    def needed(frames):
        x = jax.ShapeDtypeStruct((1, frames, 64, 64, 16), jnp.float32)
        slope = jax.jit(lambda x, ct: winograd_slope.weight_slope(x, ct, (3, 3), edges((3, 3)), 2))
        return slope.lower(x, x).compile().memory_analysis().temp_size_in_bytes

    assert needed(33) == needed(17)
