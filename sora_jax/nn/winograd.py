"""Causal convolution with kernels of three frames for the CPU, with half of the multiplications.

Toom and Cook's way to multiply polynomials, which Winograd (1980) made into fast filters and Lavin and Gray (2016,
arXiv 1509.09308) brought to convolutional networks, here along time only: of six frames that overlap by two, sums of
frames are convolved with sums of taps, six 2-D convolutions for four frames out where taps side by side need twelve.
Sums of whole frames cost little. Reverse mode only: forward mode raises TypeError.
"""
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sora_jax.nn import taps, wide
from sora_jax.nn.taps import Pair

# Frames out of one tile, and the points at which the polynomials are multiplied. Simulated in float32 (576 channels,
# root mean square) these sets are off by 1.3 and 2.3 times what plain sums are off by; 0, ±1 and ±2 by 3.3 times.
POINTS = {2: (0.0, 1.0, -1.0), 4: (0.0, 0.75, -0.75, 1.5, -1.5)}
NARROW = 16  # channels from which on the sums are worth it: with 3 all took 1.3 times as long
WORK = 10**8  # multiplications of taps side by side, a millisecond or two, from which on it is worth compiling more


def transforms(points: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(A, G, B) of filters with three taps: out = A ((G taps) · (B frames)), the last product at infinity. Rows of B
    are scaled by powers of two, so that no sum of frames is much larger than a frame."""
    size = len(points) + 1
    a, g, b = np.zeros((size - 2, size)), np.zeros((size, 3)), np.zeros((size, size))
    for i, point in enumerate(points):
        others = [other for other in points if other != point]
        a[:, i] = point ** np.arange(size - 2)
        g[i] = point ** np.arange(3) / np.prod([point - other for other in others])
        b[i, :-1] = np.poly(others)[::-1]
    a[-1, -1] = g[-1, -1] = 1
    b[-1] = np.poly(points)[::-1]
    scale = 2.0 ** np.round(np.log2(np.abs(b).max(1)))[:, None]
    return a, g * scale, b / scale


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
    outputs before its own; a NaN or infinity reaches them whole. The sums of frames are made again for the gradients,
    of single frames: side by side an update took as long.
    """
    if any(low + high != size - 1 for size, (low, high) in zip(weight.shape[1:3], pad, strict=True)):
        raise ValueError(f"pad={pad} around a window of {weight.shape[1:3]}: frames would change their size")
    return _tiled(x, weight, pad, before, beside=True)


def _causal_forward(x, weight, pad, before):
    return causal(x, weight, pad, before), (x, weight)


def _causal_backward(pad, before, kept, ct):
    return jax.vjp(lambda x, weight: _tiled(x, weight, pad, before, beside=False), *kept)[1](ct)


causal.defvjp(_causal_forward, _causal_backward)


def _tiled(x, weight, pad, before, beside):
    """The first outputs one by one, without the taps that zeros meet, until whole tiles remain; these all at once.
    Frames lie `beside` one another, `b r f n w2 c` as of `wide.folded`, or stay `b f h w c`."""
    (batch, _, h, w, _), count = x.shape, x.shape[1] + before - 2
    tile = max((size for size in POINTS if size <= count), default=count + 1)
    tiles, front = divmod(count, tile)
    axis, multiply = (2, _beside) if beside else (1, products)

    def laid(x, many):
        return wide.folded(x, wide.bands((batch, many, h, w), weight.shape[1:]), pad) if beside else x

    def back(y):
        return wide.unfolded(y, w) if beside else y

    def alone(place):
        first = max(0, before - place)
        seen = laid(x[:, place + first - before : place + 3 - before], 1)
        seen = [jax.lax.slice_in_dim(seen, k, k + 1, 1, axis) for k in range(3 - first)]
        return back(sum(multiply(seen, weight[first:], pad)))

    outputs = [alone(place) for place in range(front)]
    if tiles:
        a, g, b = transforms(POINTS[tile])
        padded = jnp.pad(x, ((0, 0), (max(0, before - front), 0), (0, 0), (0, 0), (0, 0)))[:, max(0, front - before):]
        z = laid(padded, tiles)
        frames = [jax.lax.slice_in_dim(z, k, k + (tiles - 1) * tile + 1, tile, axis) for k in range(tile + 2)]
        kernels = jnp.einsum("nk,kpqcd->npqcd", jnp.asarray(g, weight.dtype), weight)
        multiplied = multiply([mixed(row, frames) for row in b], kernels, pad)
        out = jnp.stack([back(mixed(row, multiplied)) for row in a], 2)
        outputs.append(out.reshape(batch, tiles * tile, *out.shape[3:]))
    return jnp.concatenate(outputs, 1)


def _beside(frames, kernels, pad):
    """`products` of frames that lie beside one another, without gradients."""
    return [wide.conv(frame, kernel, pad) for frame, kernel in zip(frames, kernels, strict=True)]


def mixed(row: np.ndarray, frames: list[Float[Array, "*s c"]]) -> Float[Array, "*s c"]:
    """The sum of frames times the numbers of a row."""
    return sum(float(number) * frame for number, frame in zip(row, frames, strict=True) if number)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def products(frames: list[Float[Array, "b t h w c"]], kernels: Float[Array, "n kh kw c d"],
             pad: tuple[Pair, Pair]) -> list[Float[Array, "b t ho wo d"]]:
    """2-D convolutions, each of its own frames with its own kernel. Their weight gradients are a loop over one program,
    so that less is compiled."""
    return [taps.causal(frame, kernel[None], (1, 1), pad, 0) for frame, kernel in zip(frames, kernels, strict=True)]


def _forward(frames, kernels, pad):
    return products(frames, kernels, pad), (frames, kernels)


def _backward(pad, kept, cts):
    frames, kernels = kept
    size = kernels.shape[1:3]

    def slope(pair):
        return taps.weight_slope(*(part.reshape(-1, *part.shape[2:]) for part in pair), size, (1, 1), pad)

    back = [taps.causal(ct, kernel[None], (1, 1), taps.turned(size, pad), 0)
            for ct, kernel in zip(cts, jnp.swapaxes(kernels[:, ::-1, ::-1], 3, 4), strict=True)]
    return back, jax.lax.map(slope, (jnp.stack(frames), jnp.stack(cts))).astype(kernels.dtype)


products.defvjp(_forward, _backward)
