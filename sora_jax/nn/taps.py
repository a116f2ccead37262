"""Causal convolution for the CPU: taps of time side by side on the channel axis, one 2-D convolution, own gradients.

XLA's CPU conv3d is 3 to 19 times slower than the 2-D form, and autodiff's weight gradient is a convolution whose kernel
is the whole frame: 1.5 to 7 times slower than the matmul here, which lays the windows of a few frames or rows of `x`,
channels first, beside the cotangents of the taps of time. Large kernels of three frames go through `winograd.py`.
Reverse mode only: forward mode raises TypeError.
"""
import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import lax
from jaxtyping import Array, Float

BLOCK = 1024  # positions of one matmul: 9 windows of 32 to 128 channels stay in a second-level cache of 1 to 4 MiB
# Frames of fewer positions leave the weight gradient to autodiff: at 4×4 windows are up to 16 % slower, at 8×8 they are
# 7 to 16 % faster (forward and both gradients, 48 to 192 channels, one core); alone it is 4 times faster at 64×64, 7 at
# 128×128. With no window in space autodiff's is a matmul already.
SMALL = 64
# Bytes of a clip from which on a convolution walks its frames one by one: taps of all frames side by side no longer fit
# a cache. The same bits; at 2 MiB a frame 28 % less time (32 channels, 128×128), at 0.5 MiB 13 to 28 %.
LARGE = 2**22

# Windows up to which each meets the cotangents in a matmul of its own: four side by side are one slow loop to XLA (2.4
# times as long at 64×64 with 64 channels, 1.3 at 32×32 with 128), nine are copied one by one.
FEW = 4

Pair = tuple[int, int]


def frame_conv(x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw c d"], stride: Pair,
               pad: tuple[Pair, Pair]) -> Float[Array, "n ho wo d"]:
    """A 2-D convolution of frames; of one position and no stride it is a matmul."""
    if kernel.shape[:2] == stride == (1, 1) and pad == ((0, 0), (0, 0)):
        return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:3], -1)
    return lax.conv_general_dilated(x, kernel, stride, pad, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def side_by_side(x: Float[Array, "b f h w c"], count: int, before: int,
                 after: int) -> Float[Array, "b fo h w kc"]:
    """`count` consecutive frames on the channel axis, the earliest first, with frames of zeros at both ends."""
    if count == 1:
        return x
    x = jnp.pad(x, ((0, 0), (before, after), (0, 0), (0, 0), (0, 0)))
    frames = x.shape[1] - count + 1
    return jnp.concatenate([x[:, k : k + frames] for k in range(count)], -1)


def over_taps(x: Float[Array, "b f h w c"], count: int, before: int, after: int,
              conv: Callable) -> Float[Array, "b fo _h _w d"]:
    """`conv` of frames `n h w c` on each `count` consecutive frames side by side: of all at once, or one by one where
    the clips are large."""
    if count == 1 or x.shape[1] == 1 or x.nbytes < LARGE:
        near = side_by_side(x, count, before, after)
        out = conv(rearrange(near, "b f h w c -> (b f) h w c"))
        return rearrange(out, "(b f) h w d -> b f h w d", b=len(x))
    x = jnp.pad(x, ((0, 0), (before, after), (0, 0), (0, 0), (0, 0)))

    def one(start):
        near = lax.dynamic_slice_in_dim(x, start, count, 1)
        return conv(rearrange(near, "b k h w c -> b h w (k c)"))

    return jnp.moveaxis(lax.map(one, jnp.arange(x.shape[1] - count + 1)), 0, 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def causal(x: Float[Array, "b f h w c"], weight: Float[Array, "kf kh kw c d"], stride: Pair, pad: tuple[Pair, Pair],
           before: int) -> Float[Array, "b fo ho wo d"]:
    """Convolution with no stride in time, behind `before` frames of zeros: fo = f + before - kf + 1."""
    kernel = rearrange(weight, "kf kh kw c d -> kh kw (kf c) d")
    return over_taps(x, len(weight), before, 0, lambda near: frame_conv(near, kernel, stride, pad))


def _forward(x, weight, stride, pad, before):
    return causal(x, weight, stride, pad, before), (x, weight)


def _backward(stride, pad, before, kept, ct):
    """The cotangents that a frame of x meets at its taps, latest tap first, give that of x. The frames that one of
    those meets, or they that a frame meets, whichever is less, give that of the weights."""
    x, weight = kept
    kf, narrow = len(weight), weight.shape[3] < weight.shape[4]
    edges = kf - 1 - before, kf - 1
    cts = ct if narrow else side_by_side(ct, kf, *edges)
    near = side_by_side(x, kf, before, 0) if narrow else x
    near, cts = (rearrange(part, "b f h w c -> (b f) h w c") for part in (near, cts))
    kernel = rearrange(weight[::-1], "kf kh kw c d -> kh kw c (kf d)")

    flipped = rearrange(kernel[::-1, ::-1], "kh kw c k -> kh kw k c")

    def back(near):
        if stride == (1, 1):
            return frame_conv(near, flipped, stride, turned(weight.shape[1:3], pad))
        blank = jax.ShapeDtypeStruct((len(near), *x.shape[2:]), x.dtype)
        return jax.linear_transpose(lambda frames: frame_conv(frames, kernel, stride, pad), blank)(near)[0]

    if weight.shape[1] * weight.shape[2] > 1 and ct.shape[2] * ct.shape[3] >= SMALL:
        slope = weight_slope(near, cts, weight.shape[1:3], stride, pad).astype(weight.dtype)
    else:
        blank = jnp.zeros((*weight.shape[1:3], near.shape[3], cts.shape[3]), weight.dtype)
        slope = jax.vjp(lambda kernel: frame_conv(near, kernel, stride, pad), blank)[1](cts)[0]
    if narrow:
        return over_taps(ct, kf, *edges, back), rearrange(slope, "kh kw (kf c) d -> kf kh kw c d", kf=kf)
    return over_taps(ct, kf, *edges, back), rearrange(slope, "kh kw c (kf d) -> kf kh kw c d", kf=kf)[::-1]


causal.defvjp(_forward, _backward)


def turned(size: Pair, pad: tuple[Pair, Pair]) -> tuple[Pair, Pair]:
    """Zeros around the cotangent of a convolution without strides, which a flipped kernel turns into that of `x`."""
    return tuple((k - 1 - low, k - 1 - high) for k, (low, high) in zip(size, pad, strict=True))


def weight_slope(x: Float[Array, "n h w c"], ct: Float[Array, "n ho wo d"], size: Pair, stride: Pair,
                 pad: tuple[Pair, Pair]) -> Float[Array, "kh kw c d"]:
    """Gradient of `frame_conv` in its kernel: windows of `x`, channels first, times cotangents, block by block."""
    (n, ho, wo, d), (kh, kw), c = ct.shape, size, x.shape[-1]
    rows = -(-ho // -(-ho * wo // BLOCK))
    bands = -(-ho // rows)
    frames = -(-n // -(-n * rows * wo // BLOCK)) if bands == 1 else 1
    groups = -(-n // frames)
    reach = [(k - 1) // s for k, s in zip(size, stride, strict=True)]  # strides from the first tap to the last
    full = [(out + more) * s for out, more, s in zip((bands * rows, wo), reach, stride, strict=True)]
    cut = [(start, full_ - length - start) for (start, _), full_, length in zip(pad, full, x.shape[1:3], strict=True)]
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, groups * frames - n, 0), *((*edge, 0) for edge in cut), (0, 0, 0)))
    few = kh * kw <= FEW
    x = rearrange(x, f"(g n) (h p) (w q) c -> g p q {'n h w c' if few else 'c n h w'}", g=groups, p=stride[0],
                  q=stride[1])
    ct = jnp.pad(ct, ((0, groups * frames - n), (0, bands * rows - ho), (0, 0), (0, 0)))
    ct = ct.reshape(groups, frames, bands * rows, wo, d)
    axis = 1 if few else 2  # of the rows

    def block(total, index):
        group, row = index // bands, index % bands * rows
        near = lax.dynamic_slice_in_dim(x[group], row, rows + reach[0], 2 + axis)
        right = lax.dynamic_slice_in_dim(ct[group], row, rows, 1).reshape(-1, d)
        windows = []
        for i, j in itertools.product(range(kh), range(kw)):
            seen = near[i % stride[0], j % stride[1]]
            for start, length, along in ((i // stride[0], rows, axis), (j // stride[1], wo, axis + 1)):
                seen = lax.slice_in_dim(seen, start, start + length, axis=along)
            windows.append(seen)
        lefts = [w.reshape(-1, c).T for w in windows] if few else [jnp.concatenate(windows).reshape(-1, len(right))]
        products = [jnp.matmul(left, right, preferred_element_type=jnp.float32) for left in lefts]
        return total + jnp.concatenate(products), None

    total, _ = lax.scan(block, jnp.zeros((kh * kw * c, d)), jnp.arange(groups * bands))
    return total.reshape(kh, kw, c, d)
