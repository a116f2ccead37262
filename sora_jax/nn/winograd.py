"""Causal convolution with kernels of three frames for the CPU, with half of the multiplications.

Toom and Cook's way to multiply polynomials, which Winograd (1980) made into fast filters and Lavin and Gray (2016,
arXiv 1509.09308) brought to convolutional networks, here along time only: of six frames that overlap by two, sums of
frames are convolved with sums of taps, six 2-D convolutions for four frames out where taps side by side need twelve.
Sums of whole frames cost little. Where no frame is before the first, its two taps of zeros are left out.
"""
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sora_jax.nn import taps
from sora_jax.nn.taps import Pair

# Frames out of one tile, and the points at which the polynomials are multiplied. In float32 these two sets are off by
# 1.3 and 2.3 times what taps side by side are off by (root mean square, 576 channels); 0, ±1 and ±2 by 3.3 times.
POINTS = {2: (0.0, 1.0, -1.0), 4: (0.0, 0.75, -0.75, 1.5, -1.5)}
NARROW = 16  # channels from which on the sums are worth it: with 3 all took 1.3 times as long
WORK = 10**8  # multiplications of taps side by side, a millisecond or two, from which on it is worth compiling more


def transforms(points: tuple[float, ...], count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(out, of taps, of frames): filters of `count` taps are out @ ((of taps @ taps) * (of frames @ frames)). The last
    product is at infinity. Rows are scaled by powers of two, so that no sum of frames is much larger than a frame."""
    size = len(points) + 1
    out, kernels, frames = np.zeros((size - count + 1, size)), np.zeros((size, count)), np.zeros((size, size))
    for i, point in enumerate(points):
        others = [other for other in points if other != point]
        out[:, i] = point ** np.arange(len(out))
        kernels[i] = point ** np.arange(count) / np.prod([point - other for other in others])
        frames[i, :-1] = np.poly(others)[::-1]
    out[-1, -1] = kernels[-1, -1] = 1
    frames[-1] = np.poly(points)[::-1]
    scale = 2.0 ** np.round(np.log2(np.abs(frames).max(1)))[:, None]
    return out, kernels * scale, frames / scale


def fits(x: Float[Array, "b f h w c"], weight: Float[Array, "kf kh kw c d"]) -> bool:
    """Whether `causal` takes it and is quicker: three taps in time, a window in space, channels and work enough."""
    kf, kh, kw, c, d = weight.shape
    return (kf == 3 and kh * kw > 1 and c >= NARROW and x.dtype == jnp.float32
            and x.size * kf * kh * kw * d >= WORK)


def causal(x: Float[Array, "b f h w c"], weight: Float[Array, "3 kh kw c d"], pad: tuple[Pair, Pair],
           before: int) -> Float[Array, "b fo ho wo d"]:
    """`taps.causal` without strides, to rounding. What a frame becomes depends on the three after it by rounding alone
    (so a NaN reaches three frames back).

    Gradients are those of the 2-D convolutions, as cheap as they; the sums of frames are made again for them.
    """
    return jax.checkpoint(lambda x, weight: tiled(x, weight, pad, before))(x, weight)


def tiled(x, weight, pad, before):
    """Frames in front, until whole tiles remain, by themselves; then all tiles at once."""
    b, f = x.shape[:2]
    tile = max((size for size in POINTS if size <= f + before - 2), default=0)
    count, front = divmod(f + before - 2, tile) if tile else (0, f + before - 2)

    def alone(place):
        seen = [k for k in range(3) if place + k >= before]
        return sum(convolved([x[:, place + k - before, None] for k in seen], weight[seen[0]:], pad))

    if not count:
        return jnp.concatenate([alone(place) for place in range(front)], 1)
    out, kernels, frames = transforms(POINTS[tile], 3)
    x0 = jnp.pad(x, ((0, 0), (max(0, before - front), 0), (0, 0), (0, 0), (0, 0)))[:, max(0, front - before):]
    near = [x0[:, k : k + (count - 1) * tile + 1 : tile] for k in range(tile + 2)]
    kernel = jnp.einsum("ik,kpqcd->ipqcd", jnp.asarray(kernels, weight.dtype), weight)
    products = convolved([mixed(row, near) for row in frames], kernel, pad)
    tiles = jnp.stack([mixed(row, products) for row in out], 2)
    tiles = tiles.reshape(b, count * tile, *tiles.shape[3:])
    return jnp.concatenate([*(alone(place) for place in range(front)), tiles], 1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolved(frames: list[Float[Array, "b t h w c"]], kernels: Float[Array, "n kh kw c d"],
              pad: tuple[Pair, Pair]) -> list[Float[Array, "b t ho wo d"]]:
    """2-D convolutions, each of its own frames with its own kernel. Their weight gradients share one program."""
    return [taps.causal(frame, kernel[None], (1, 1), pad, 0) for frame, kernel in zip(frames, kernels, strict=True)]


def _forward(frames, kernels, pad):
    return convolved(frames, kernels, pad), (frames, kernels)


def _backward(pad, kept, cts):
    def slope(pair):
        return taps.weight_slope(*(part.reshape(-1, *part.shape[2:]) for part in pair), size, (1, 1), pad)

    frames, kernels = kept
    size = kernels.shape[1:3]
    turned = tuple((k - 1 - low, k - 1 - high) for k, (low, high) in zip(size, pad, strict=True))
    back = [taps.causal(ct, kernel[None], (1, 1), turned, 0)
            for ct, kernel in zip(cts, jnp.swapaxes(kernels[:, ::-1, ::-1], 3, 4), strict=True)]
    return back, jax.lax.map(slope, (jnp.stack(frames), jnp.stack(cts)))


convolved.defvjp(_forward, _backward)


def mixed(row: np.ndarray, frames: list[Float[Array, "b t h w c"]]) -> Float[Array, "b t h w c"]:
    """The sum of frames times the numbers of a row."""
    return sum(float(number) * frame for number, frame in zip(row, frames, strict=True) if number)
