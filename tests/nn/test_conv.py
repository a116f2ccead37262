"""Causal 3-D convolution: both ways of computing it agree with each other and with a sum written by hand."""
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sora_jax.nn import taps
from sora_jax.nn.conv import CausalConv3d, causal_conv3d

AGREE = 5e-5
SHAPES = [((3, 3, 3), (1, 1, 1)), ((3, 3, 3), (2, 2, 2)), ((3, 1, 1), (1, 1, 1)), ((1, 3, 3), (1, 2, 2)),
          ((1, 1, 1), (1, 1, 1)), ((3, 3, 3), (2, 1, 1)), ((2, 5, 3), (1, 1, 1)), ((4, 3, 3), (4, 1, 1)),
          ((3, 2, 4), (1, 2, 1)), ((3, 1, 1), (2, 1, 1)), ((1, 1, 1), (1, 2, 2)), ((2, 2, 2), (1, 1, 1)),
          ((1, 2, 2), (1, 2, 2))]


def drawn(kernel, frames=5, height=6, width=4, cin=3, cout=2):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, frames, height, width, cin)).astype(np.float32)
    return jnp.asarray(x), jnp.asarray(rng.normal(size=(*kernel, cin, cout)).astype(np.float32))


def by_hand(x, weight, stride):
    """out[f, i, j] = sum over taps of x[sf f - (kf - 1) + a, sh i - kh // 2 + b, sw j - kw // 2 + c] w[a, b, c]."""
    x, weight = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    (b, f, h, w, _), (kf, kh, kw, _, d) = x.shape, weight.shape
    sf, sh, sw = stride
    out = np.zeros((b, (f - 1) // sf + 1, (h - 1) // sh + 1, (w - 1) // sw + 1, d))
    for (fo, i, j), (a, p, q) in itertools.product(np.ndindex(out.shape[1:4]), np.ndindex(kf, kh, kw)):
        t, y, z = sf * fo - (kf - 1) + a, sh * i - kh // 2 + p, sw * j - kw // 2 + q
        if 0 <= t < f and 0 <= y < h and 0 <= z < w:
            out[:, fo, i, j] += x[:, t, y, z] @ weight[a, p, q]
    return out


@pytest.mark.parametrize("impl", ["native", "taps"])
@pytest.mark.parametrize("kernel, stride", SHAPES)
def test_it_is_the_sum_over_taps(kernel, stride, impl):
    x, weight = drawn(kernel)
    np.testing.assert_allclose(causal_conv3d(x, weight, stride, impl), by_hand(x, weight, stride), atol=AGREE)


@pytest.mark.parametrize("kernel, stride", SHAPES)
def test_both_ways_have_one_gradient(kernel, stride):
    x, weight = drawn(kernel)
    mark = np.random.default_rng(1).normal(size=causal_conv3d(x, weight, stride).shape).astype(np.float32)

    def total(impl):
        return jax.jit(jax.grad(lambda x, w: jnp.sum(jnp.sin(causal_conv3d(x, w, stride, impl)) * mark), (0, 1)))

    for native, ours in zip(total("native")(x, weight), total("taps")(x, weight), strict=True):
        assert np.abs(native).max() > 0.1
        np.testing.assert_allclose(ours, native, atol=AGREE)


@pytest.mark.parametrize("impl", ["native", "taps"])
def test_the_future_is_not_seen_and_the_present_is(impl):
    x, weight = drawn((3, 3, 3), frames=7)
    for stride in (1, 2):
        whole = causal_conv3d(x, weight, (stride, 1, 1), impl)
        for frame in range(7):
            other = causal_conv3d(x.at[:, frame].add(1), weight, (stride, 1, 1), impl)
            moved = np.abs(other - whole).max((0, 2, 3, 4))
            first = -(-frame // stride)
            assert not moved[:first].any(), "an earlier output saw a later frame"
            assert (moved[first : first + 1] > 1e-3).all(), "the frame itself is not seen"


def test_frame_zero_stands_alone():
    x, weight = drawn((3, 3, 3))
    for stride in (1, 2, 4):
        alone = causal_conv3d(x[:, :1], weight, (stride, 1, 1))
        np.testing.assert_array_equal(alone, causal_conv3d(x, weight, (stride, 1, 1))[:, :1])


def test_by_backend_is_taps_on_cpu():
    x, weight = drawn((3, 3, 3))
    jaxpr = {impl: str(jax.make_jaxpr(lambda x, w: causal_conv3d(x, w, impl=impl))(x, weight))  # noqa: B023
             for impl in ("auto", "taps", "native")}
    assert jaxpr["auto"] == jaxpr["taps"] != jaxpr["native"]


def test_the_layer_has_bias_gain_and_axis_names():
    rngs = nnx.Rngs(0)
    layer = CausalConv3d(64, 128, (3, 3, 3), gain=0.5, rngs=rngs)
    assert layer.weight[...].shape == (3, 3, 3, 64, 128)
    assert layer.weight.get_metadata()["out_sharding"] == (None, None, None, "in", "out")
    assert float(layer.weight[...].std()) == pytest.approx(0.5 * (27 * 64) ** -0.5, rel=0.02)
    x = jax.random.normal(jax.random.key(0), (1, 2, 4, 4, 64))
    plain = layer(x)
    layer.bias.set_value(jnp.arange(128.0))
    np.testing.assert_allclose(layer(x) - plain, np.broadcast_to(np.arange(128.0), plain.shape), atol=AGREE)


@pytest.mark.parametrize("impl", ["native", "taps"])
@pytest.mark.parametrize("kernel, stride", SHAPES)
def test_chunks_with_their_cache_are_the_whole(kernel, stride, impl):
    layer = CausalConv3d(3, 2, kernel, stride=stride, impl=impl, rngs=nnx.Rngs(0))
    step = stride[0]
    x, _ = drawn(kernel, frames=1 + 4 * step)
    whole, parts, past, start = layer(x), [], None, 0
    for end in (1, 1 + step, 1 + 3 * step, 1 + 4 * step):
        part, past = layer.stream(x[:, start:end], past)
        assert past.shape[1] == kernel[0] - 1
        parts.append(part)
        start = end
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=AGREE)


@pytest.mark.parametrize("block, cout", [(16, 2), (40, 5), (1024, 2), (1024, 5)])
@pytest.mark.parametrize("kernel, stride", SHAPES)
@pytest.mark.parametrize("streamed", [False, True])
def test_the_matmul_of_windows_is_the_gradient(monkeypatch, kernel, stride, streamed, block, cout):
    """Blocks of some rows, of a frame or two, and of all, none of which divides the clip; with a cache and without;
    more channels in than out, whose cotangents lie side by side, and fewer, which do so themselves."""
    monkeypatch.setattr(taps, "BLOCK", block)
    monkeypatch.setattr(taps, "SMALL", 1)
    x, weight = drawn(kernel, frames=4 * stride[0] + (not streamed), height=9, width=7, cout=cout)
    past = drawn(kernel, frames=kernel[0] - 1, height=9, width=7)[0] if streamed else None

    def slopes(impl):
        y = causal_conv3d(x, weight, stride, impl, past)
        mark = jnp.asarray(np.random.default_rng(1).normal(size=y.shape), jnp.float32)

        def total(x, weight, past=None):
            return jnp.sum(jnp.sin(causal_conv3d(x, weight, stride, impl, past)) * mark)

        return jax.grad(total, tuple(range(2 + streamed)))(x, weight, *[past] * streamed)

    want = slopes("native")
    assert min(np.abs(slope).max() for slope in want[:2]) > 0.1
    for ours, native in zip(slopes("taps"), want, strict=True):
        np.testing.assert_allclose(ours, native, rtol=AGREE, atol=2 * AGREE)


def test_members_side_by_side_and_no_forward_mode():
    x, weight = drawn((3, 3, 3), height=8, width=8)
    both = jnp.stack([weight, 2 * weight])
    slope = jax.grad(lambda weight: jnp.sum(causal_conv3d(x, weight, impl="taps") ** 2) / 1000)
    np.testing.assert_allclose(jax.vmap(slope)(both), jnp.stack([slope(w) for w in both]), rtol=1e-4, atol=AGREE)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda weight: causal_conv3d(x, weight, impl="taps"), (weight,), (weight,))
