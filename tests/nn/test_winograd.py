"""Convolution with fewer multiplications: the transforms are exact, values and gradients are those of conv3d, and clips
that are too small, too narrow or not in float32 go another way."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.nn import conv, taps, toom_cook, winograd

AGREE = 4e-6  # of the largest value; taps side by side stay within 1e-6
FRAMES = [*((frames, 2) for frames in range(1, 12)), *((frames, 1) for frames in range(2, 9)),
          *((frames, 0) for frames in range(3, 11))]


def drawn(frames, kernel=(3, 3, 3), cin=24, cout=20, height=6, width=5):
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(2, frames, height, width, cin)), rng.normal(size=(*kernel, cin, cout))
    return jnp.asarray(x, jnp.float32), jnp.asarray(weight / np.sqrt(weight[..., 0].size), jnp.float32)


@pytest.mark.parametrize("tile", toom_cook.POINTS)
def test_the_transforms_filter_exactly(tile):
    a, g, b = toom_cook.transforms(toom_cook.POINTS[tile], 3)
    rng = np.random.default_rng(0)
    weight, x = rng.normal(size=3), rng.normal(size=tile + 2)
    np.testing.assert_allclose(a @ ((g @ weight) * (b @ x)), np.correlate(x, weight), atol=1e-13)
    assert len(b) == tile + 2 and np.abs(b).max() <= 2


@pytest.mark.parametrize("tile, times", [(2, 1.6), (4, 2.8)])
def test_in_float32_they_are_off_by_little_more_than_sums(tile, times):
    a, g, b = (matrix.astype(np.float32) for matrix in toom_cook.transforms(toom_cook.POINTS[tile], 3))
    rng = np.random.default_rng(0)
    x, weight = (rng.normal(size=size).astype(np.float32) for size in ((tile + 2, 2000, 576), (3, 576, 8)))
    want = np.stack([sum(x[j + k].astype(float) @ weight[k] for k in range(3)) for j in range(tile)])
    plain = np.stack([sum(x[j + k] @ weight[k] for k in range(3)) for j in range(tile)])
    sums, kernels = np.einsum("nt,tmc->nmc", b, x), np.einsum("nk,kcd->ncd", g, weight)
    made = np.einsum("jn,nmd->jmd", a, np.stack([left @ right for left, right in zip(sums, kernels, strict=True)]))
    off, usual = (np.sqrt(np.mean((answer - want) ** 2)) for answer in (made, plain))
    assert off < times * usual


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


@pytest.mark.parametrize("size", [1.0, 1e3])
def test_frames_change_what_does_not_see_them_by_rounding_alone(size):
    x, weight = drawn(13)
    pad = ((1, 1), (1, 1))
    whole = winograd.causal(x, weight, pad, 2)
    for frame in range(13):
        other = winograd.causal(x.at[:, frame].add(size), weight, pad, 2)
        moved = np.abs(other - whole).max((0, 2, 3, 4))
        seen = np.isin(np.arange(13), range(frame, frame + 3))
        assert (moved[~seen] < 1e-5 * size).all() and (moved[seen] > 1e-3).all()
        assert not moved[: max(0, frame - 3)].any()


def test_members_of_a_population_and_programs_made_again_agree():
    x, weight = drawn(5)

    def total(x, weight):
        return jnp.sum(jnp.sin(winograd.causal(x, weight, ((1, 1), (1, 1)), 2)))

    want = jax.grad(total, (0, 1))(x, weight)
    again = jax.grad(jax.checkpoint(total), (0, 1))(x, weight)
    many = jax.vmap(jax.grad(total, (0, 1)))(jnp.stack([x, 2 * x]), jnp.stack([weight, weight]))
    for one, other, both in zip(want, again, many, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)
        np.testing.assert_allclose(both[0], one, atol=1e-4)


def test_only_what_gains_goes_this_way(monkeypatch):
    taken = []
    monkeypatch.setattr(winograd, "causal", lambda x, weight, pad, before: taken.append(x.shape) or taps.causal(
        x, weight, (1, 1), pad, before))
    large, weight = drawn(9, height=20, width=40)
    conv.causal_conv3d(large, weight, impl="taps")
    assert taken == [large.shape]
    conv.causal_conv3d(large[:, :1, :, :9], weight, impl="taps")
    monkeypatch.setattr(winograd, "WORK", 0)  # what follows is refused for its own reason
    for x, w in ((large.astype(jnp.bfloat16), weight.astype(jnp.bfloat16)), (large[..., :8], weight[..., :8, :]),
                 (large, weight[:, :1, :1]), (large, weight[:1]),
                 (jnp.tile(large[:, :, :7, :8], (16, 1, 1, 1, 1)), weight)):
        conv.causal_conv3d(x, w, impl="taps")
    for stride in ((2, 1, 1), (1, 2, 2)):
        conv.causal_conv3d(large, weight, stride, impl="taps")
    conv.causal_conv3d(large[:, 2:3], weight, impl="taps", past=large[:, :2])
    assert taken == [large.shape]
