"""Frames side by side in one wide one, so that a 2-D convolution on the CPU has work for all cores.

YNNPACK, which runs the 2-D convolutions of XLA on CPU (jaxlib 0.10), hands cores pieces of one row of the output at a
time and no smaller ones than make up for the trouble: on two cores a convolution of frames of 128×128 with 32 channels
runs on one. Frames laid side by side, and bands of them where that is not enough, make rows that are long enough.
"""
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from sora_jax.nn.taps import Pair, frame_conv

# Two pieces of a row: a piece is 2^16 / k positions or more, k = kh kw c sums each (YNNPACK, `choose_split_factors`).
# On two cores 9×128×128 with 32 channels takes 0.67 of the time of single frames, 9×64×64 with 64 0.69.
WORTH = 2**17
CUT = 128  # channels out from which on there are two pieces of a position as well
ROWS = 8  # a band has as many or more, or its edges, which are there twice, cost more than a core gains


def bands(shape: tuple[int, int, int, int], kernel: tuple[int, int, int, int]) -> int:
    """Into how many bands frames `b f h w` are best cut for a kernel `kh kw c d` before they lie side by side."""
    (_, f, h, w), (kh, kw, c, d) = shape, kernel
    count = 1
    while d < CUT and f * count * w * kh * kw * c < WORTH and h % (2 * count) == 0 and h >= 2 * count * ROWS:
        count *= 2
    return count


def folded(x: Float[Array, "b f h w c"], count: int, pad: tuple[Pair, Pair],
           time: Pair = (0, 0)) -> Float[Array, "b r fo n w2 c"]:
    """`count` bands of each frame, with the rows above and below that their windows see, r = h / count + low + high;
    zeros between frames and bands, w2 = w + max(low, high) of the columns, and frames of zeros at both ends, fo = f +
    sum(time). `count` divides h."""
    rows, edges = x.shape[2] // count, sum(pad[0])
    x = jnp.pad(x, ((0, 0), time, pad[0], (0, max(pad[1])), (0, 0)))  # once: of two pads XLA makes a slow loop
    cut = [x[:, :, start : start + rows + edges] for start in range(0, rows * count, rows)]
    return rearrange(jnp.stack(cut), "n b f r w c -> b r f n w c")


def conv(z: Float[Array, "b r f n w2 c"], kernel: Float[Array, "kh kw c d"],
         pad: tuple[Pair, Pair]) -> Float[Array, "b ro f n w2 d"]:
    """All frames in one wide one, convolved with the padding that they were folded with; ro = r - kh + 1. Between them
    stands what means nothing."""
    y = frame_conv(rearrange(z, "b r f n w c -> b r (f n w) c"), kernel, (1, 1), ((0, 0), pad[1]))
    return rearrange(y, "b r (f n w) d -> b r f n w d", f=z.shape[2], n=z.shape[3])


def unfolded(y: Float[Array, "b r f n w2 d"], width: int) -> Float[Array, "b f n*r w d"]:
    """Frames as they were, `width` columns each, of bands without the rows above and below."""
    return rearrange(y[..., :width, :], "b r f n w d -> b f (n r) w d")
