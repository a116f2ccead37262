"""Frames side by side in one wide one, so that a 2-D convolution on the CPU has work for all cores.

YNNPACK, which runs the 2-D convolutions of XLA on CPU, hands cores pieces of one row of the output at a time and no
smaller ones than make up for the trouble: on two cores a convolution of frames of 128×128 with 32 channels runs on
one. Frames laid side by side, and bands of them where that is not enough, make rows that are long enough. The sums are
the same.
"""
import jax.numpy as jnp
from jaxtyping import Array, Float

from sora_jax.nn.taps import Pair

# Two pieces of a row: a piece is 2^16 / k positions or more, k = kh kw c sums each (YNNPACK, `choose_split_factors`).
# On two cores 9×128×128 with 32 channels takes 0.7 of the time of single frames, 9×64×64 with 64 0.65; one core 1.05.
WORTH = 2**17
CUT = 128  # channels out from which on there are two pieces of a position as well
ROWS = 8  # a band has as many or more, so that its edges, which are there twice, are few


def bands(shape: tuple[int, int, int, int], kernel: tuple[int, int, int, int]) -> int:
    """Into how many bands frames `b f h w` are best cut for a kernel `kh kw c d` before they lie side by side."""
    (_, f, h, w), (kh, kw, c, d) = shape, kernel
    count = 1
    while d < CUT and f * count * w * kh * kw * c < WORTH and h % (2 * count) == 0 and h >= 2 * count * ROWS:
        count *= 2
    return count


def folded(x: Float[Array, "b f h w c"], count: int, pad: tuple[Pair, Pair]) -> Float[Array, "b r f n w2 c"]:
    """`count` bands of each frame, with the rows above and below that their windows see, r = h / count + low + high;
    zeros between frames and bands, w2 = w + max(low, high) of the columns."""
    rows, (low, high) = x.shape[2] // count, pad[0]
    x = jnp.pad(x, ((0, 0), (0, 0), pad[0], (0, max(pad[1])), (0, 0)))
    cut = [x[:, :, start : start + rows + low + high] for start in range(0, rows * count, rows)]
    return jnp.moveaxis(jnp.stack(cut, 3), 2, 1)


def unfolded(y: Float[Array, "b r f n w2 d"], width: int) -> Float[Array, "b f n*r w d"]:
    """Frames as they were, `width` columns each, of bands without the rows above and below."""
    y = jnp.moveaxis(y[..., :width, :], 1, 3)
    return y.reshape(*y.shape[:2], -1, *y.shape[4:])


def lines(z: Float[Array, "b r f n w2 c"]) -> Float[Array, "b r f*n*w2 c"]:
    """As one wide frame."""
    return z.reshape(*z.shape[:2], -1, z.shape[-1])
