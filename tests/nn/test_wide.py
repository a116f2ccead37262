"""Frames side by side are convolved as each alone would be, come back as they were, and are cut no more than helps."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.nn import taps, wide, winograd


def drawn(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("pad", [((1, 1), (1, 1)), ((0, 1), (1, 0)), ((2, 2), (0, 2)), ((0, 0), (2, 1))])
def test_bands_are_convolved_as_whole_frames_are(count, pad):
    x = drawn(2, 3, 16, 5, 4)
    kernel = drawn(*(sum(edges) + 1 for edges in pad), 4, 6, seed=1)
    line = wide.lines(wide.folded(x, count, pad))
    y = taps.frame_conv(line, kernel, (1, 1), ((0, 0), pad[1]))
    made = wide.unfolded(y.reshape(2, 16 // count, 3, count, -1, 6), 5)
    np.testing.assert_allclose(made, taps.causal(x, kernel[None], (1, 1), pad, 0), atol=2e-5)


def test_a_frame_meets_none_of_its_neighbours():
    x = drawn(1, 3, 16, 5, 4)
    line = wide.lines(wide.folded(x.at[:, 1].set(jnp.nan), 2, ((1, 1), (1, 1))))
    y = taps.frame_conv(line, drawn(3, 3, 4, 6), (1, 1), ((0, 0), (1, 1)))
    seen = np.isnan(wide.unfolded(y.reshape(1, 8, 3, 2, -1, 6), 5)).any((0, 2, 3, 4))
    assert seen.tolist() == [False, True, False]


@pytest.mark.parametrize("shape, kernel, count", [
    ((1, 2, 128, 128), (3, 3, 32, 32), 2),  # 2 frames of 128 positions are half a row that is worth cutting
    ((4, 2, 128, 128), (3, 3, 32, 32), 2),  # clips do not lie in one row
    ((1, 4, 128, 128), (3, 3, 32, 32), 1),
    ((1, 1, 128, 128), (3, 3, 32, 32), 4),
    ((1, 1, 128, 128), (3, 3, 32, 128), 1),  # channels are cut
    ((1, 1, 24, 24), (3, 3, 32, 32), 2),  # 12 rows a band; 6 were too few
    ((1, 1, 25, 128), (3, 3, 32, 32), 1),  # bands of as many rows each
])
def test_no_more_bands_than_two_cores_need(shape, kernel, count):
    assert wide.bands(shape, kernel) == count


@pytest.mark.parametrize("frames", [1, 3, 6, 9])
def test_the_fast_way_is_the_same_beside_and_apart(frames):
    x, weight = drawn(2, frames, 32, 24, 16), drawn(3, 3, 3, 16, 8, seed=1)
    assert wide.bands((2, 1, 32, 24), weight.shape[1:]) > 1
    made, apart = (jax.jit(lambda x, w, beside=beside: winograd._tiled(x, w, ((1, 1), (1, 1)), 2, beside))(x, weight)
                   for beside in (True, False))
    np.testing.assert_allclose(made, apart, atol=1e-6 * float(jnp.abs(apart).max()))
