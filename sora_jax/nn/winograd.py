"""Causal convolution with kernels of three frames for the CPU, with half of the multiplications.

Toom and Cook's sums (`toom_cook.py`), here along time only: of six frames that overlap by two, sums of frames are
convolved with sums of taps, six 2-D convolutions for four frames out where taps side by side need twelve. Sums of whole
frames cost little. Reverse mode only: forward mode raises TypeError.
"""
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sora_jax.nn import taps, wide
from sora_jax.nn.taps import Pair
from sora_jax.nn.toom_cook import POINTS, mixed, tiling, transforms
from sora_jax.nn.winograd_slope import weight_slope

NARROW = 16  # channels from which on the sums are worth it: with 3 all took 1.3 times as long
WORK = 10**8  # multiplications of taps side by side, a millisecond or two, from which on it is worth compiling more


def fits(x: Float[Array, "b f h w c"], weight: Float[Array, "kf kh kw c d"], before: int) -> bool:
    """Whether `causal` takes it and is quicker: three taps in time, a window in space, channels, positions and work
    enough, and multiplications to save: two frames out or more, or zeros before the only one."""
    (kf, kh, kw, c, d), count = weight.shape, x.shape[1] + before - 2
    return (kf == 3 and 0 <= before <= 2 and count >= (1 if before else 2) and kh * kw > 1 and c >= NARROW
            and x.shape[2] * x.shape[3] >= taps.SMALL and x.size * kf * kh * kw * d >= WORK
            and x.dtype == jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def causal(x: Float[Array, "b f h w c"], weight: Float[Array, "3 kh kw c d"], pad: tuple[Pair, Pair],
           before: int) -> Float[Array, "b fo h w d"]:
    """`taps.causal` with no stride behind 0 to 2 frames of zeros, to rounding: fo = f + before - 2, at least one.
    Raises ValueError for a `pad` that does not leave rows and columns as many as they are.

    A frame reaches all outputs of the tiles it is in by rounding, relative to the largest of six frames, so up to three
    outputs before its own; a NaN or infinity reaches them whole.
    """
    if any(low + high != size - 1 for size, (low, high) in zip(weight.shape[1:3], pad, strict=True)):
        raise ValueError(f"pad={pad} around a window of {weight.shape[1:3]}: frames would change their size")
    return _tiled(x, weight, pad, (before, 0))


def _forward(x, weight, pad, before):
    return causal(x, weight, pad, before), (x, weight)


def _backward(pad, before, kept, ct):
    """The cotangent of `x` is that of `y` convolved with the kernel turned over, with zeros after the last frame."""
    x, weight = kept
    size = weight.shape[1:3]
    turned = jnp.swapaxes(weight[::-1, ::-1, ::-1], 3, 4)
    back = _tiled(ct, turned, taps.turned(size, pad), (2 - before, 2))
    return back, weight_slope(x, ct, size, pad, before).astype(weight.dtype)


causal.defvjp(_forward, _backward)


def _tiled(x, weight, pad, zeros):
    """Outputs one by one, without the taps that zeros meet, until whole tiles remain, and these all at once. `zeros`:
    frames of zeros before and after; the single outputs are the last ones if there are any after."""
    (before, after), (batch, f, h, w, _) = zeros, x.shape
    tile, tiles, odd = tiling(f + before + after - 2)

    def laid(x, many, edges=(0, 0)):
        return wide.folded(x, wide.bands((batch, many, h, w), weight.shape[1:]), pad, edges)

    def convolved(frames, kernels):
        return [wide.conv(frame, kernel, pad) for frame, kernel in zip(frames, kernels, strict=True)]

    def alone(place):
        first = place - before
        seen = [k for k in range(3) if 0 <= first + k < f]
        z = laid(x[:, first + seen[0] : first + seen[-1] + 1], 1)
        frames = [z[:, :, k : k + 1] for k in range(len(seen))]
        return wide.unfolded(sum(convolved(frames, [weight[k] for k in seen])), w)

    single = [alone(place + tiles * tile * (after > 0)) for place in range(odd)]
    many = []
    if tiles:
        a, g, b = transforms(POINTS[tile], 3)
        start = (0 if after else odd) - before
        stop = start + tiles * tile + 2
        z = laid(x[:, max(0, start) : stop], tiles, (max(0, -start), max(0, stop - f)))
        frames = [z[:, :, k : k + (tiles - 1) * tile + 1 : tile] for k in range(tile + 2)]
        multiplied = convolved([mixed(row, frames) for row in b], [mixed(row, list(weight)) for row in g])
        out = jnp.stack([wide.unfolded(mixed(row, multiplied), w) for row in a], 2)
        many = [out.reshape(batch, tiles * tile, *out.shape[3:])]
    return jnp.concatenate(many + single if after else single + many, 1)
