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
    made = wide.unfolded(wide.conv(wide.folded(x, count, pad), kernel, pad), 5)
    np.testing.assert_allclose(made, taps.causal(x, kernel[None], (1, 1), pad, 0), atol=2e-5)


def test_a_frame_meets_none_of_its_neighbours():
    x = drawn(1, 3, 16, 5, 4)
    pad = ((1, 1), (1, 1))
    y = wide.conv(wide.folded(x.at[:, 1].set(jnp.nan), 2, pad), drawn(3, 3, 4, 6), pad)
    seen = np.isnan(wide.unfolded(y, 5)).any((0, 2, 3, 4))
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


@pytest.mark.parametrize("before", [0, 1, 2])
@pytest.mark.parametrize("kernel", [(3, 3), (2, 5)])
def test_convolutions_in_bands_are_those_of_conv3d_with_gradients_and_in_populations(kernel, before):
    x, weight = drawn(2, 2, 9, 32, 6, 16), drawn(2, 3, *kernel, 16, 8, seed=1) / 20
    pad = tuple((k // 2, (k - 1) // 2) for k in kernel)
    assert wide.bands((2, 1, 32, 6), weight.shape[2:]) > 1

    def total(way):
        def sines(x, weight):
            y = way(x, weight)
            return jnp.sum(jnp.sin(y)), y
        return jax.jit(jax.vmap(jax.value_and_grad(sines, (0, 1), has_aux=True)))(x, weight)

    (_, want), slopes = total(lambda x, w: jax.lax.conv_general_dilated(
        x, w, (1, 1, 1), ((before, 0), *pad), dimension_numbers=("NDHWC", "DHWIO", "NDHWC")))
    (_, made), ours = total(lambda x, w: winograd.causal(x, w, pad, before))
    for one, other in ((want, made), *zip(slopes, ours, strict=True)):
        assert one.shape == other.shape
        assert np.abs(one - other).max() <= 4e-6 * np.abs(one).max()


@pytest.mark.parametrize("pad", [((0, 0), (1, 1)), ((1, 1), (2, 2))])
def test_padding_that_changes_the_size_is_refused(pad):
    with pytest.raises(ValueError, match="change their size"):
        winograd.causal(drawn(1, 4, 32, 6, 16), drawn(3, 3, 3, 16, 8), pad, 2)
