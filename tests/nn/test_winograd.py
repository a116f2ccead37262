"""Convolution with fewer multiplications: the transforms are exact, values and gradients are those of conv3d, and clips
that are too small, too narrow or not in float32 go another way."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.nn import conv, taps, winograd

AGREE = 4e-6  # of the largest value; taps side by side stay within 1e-6
FRAMES = [(1, 2), (2, 2), (3, 2), (4, 2), (5, 2), (8, 2), (9, 2), (3, 0), (4, 0), (5, 0), (6, 0), (9, 0), (5, 1)]


def drawn(frames, kernel=(3, 3, 3), cin=24, cout=20, height=6, width=5):
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(2, frames, height, width, cin)), rng.normal(size=(*kernel, cin, cout))
    return jnp.asarray(x, jnp.float32), jnp.asarray(weight / np.sqrt(weight[..., 0].size), jnp.float32)


@pytest.mark.parametrize("tile", winograd.POINTS)
def test_the_transforms_filter_exactly(tile):
    out, kernels, frames = winograd.transforms(winograd.POINTS[tile], 3)
    rng = np.random.default_rng(0)
    weight, x = rng.normal(size=3), rng.normal(size=tile + 2)
    np.testing.assert_allclose(out @ ((kernels @ weight) * (frames @ x)), np.correlate(x, weight), atol=1e-13)
    assert len(frames) == tile + 2 and np.abs(frames).max() <= 2


@pytest.mark.parametrize("frames, before", FRAMES)
@pytest.mark.parametrize("kernel", [(3, 3, 3), (3, 2, 5)])
def test_values_and_gradients_are_those_of_conv3d(kernel, frames, before):
    x, weight = drawn(frames, kernel)
    pad = tuple((k // 2, (k - 1) // 2) for k in kernel[1:])

    def total(way):
        return jax.jit(jax.value_and_grad(lambda x, w: (lambda y: (jnp.sum(jnp.sin(y)), y))(way(x, w)), (0, 1),
                                          has_aux=True))

    def native(x, w):
        return jax.lax.conv_general_dilated(x, w, (1, 1, 1), ((before, 0), *pad),
                                            dimension_numbers=("NDHWC", "DHWIO", "NDHWC"))

    (_, want), slopes = total(native)(x, weight)
    (_, made), ours = total(lambda x, w: winograd.causal(x, w, pad, before))(x, weight)
    for one, other in ((want, made), *zip(slopes, ours, strict=True)):
        assert one.shape == other.shape
        assert np.abs(one - other).max() <= AGREE * np.abs(one).max()


def test_later_frames_change_nothing_but_the_rounding():
    x, weight = drawn(9)
    pad = ((1, 1), (1, 1))
    whole = winograd.causal(x, weight, pad, 2)
    for frame in range(9):
        other = winograd.causal(x.at[:, frame].add(1), weight, pad, 2)
        moved = np.abs(other - whole).max((0, 2, 3, 4))
        assert (moved[:frame] < 1e-5).all() and (moved[frame : frame + 3] > 1e-3).all()


def test_only_what_gains_goes_this_way(monkeypatch):
    taken = []
    monkeypatch.setattr(winograd, "causal", lambda x, weight, pad, before: taken.append(x.shape) or taps.causal(
        x, weight, (1, 1), pad, before))
    large, weight = drawn(9, height=20, width=40)
    conv.causal_conv3d(large, weight, impl="taps")
    assert taken == [large.shape]
    for x, w in ((large.astype(jnp.bfloat16), weight.astype(jnp.bfloat16)), (large[..., :8], weight[..., :8, :]),
                 (large[:, :1], weight), (large, weight[:, :1, :1]), (large, weight[:1])):
        conv.causal_conv3d(x, w, impl="taps")
    conv.causal_conv3d(large, weight, (2, 1, 1), impl="taps")
    assert taken == [large.shape]
