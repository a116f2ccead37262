"""Weight gradient of `winograd.causal`, with a quarter of the multiplications of kernels of 3×3×3.

That gradient is a filter too: the cotangents of a tile are its taps, and it has an output for each tap of the kernel.
So sums save multiplications here as well, along time and along rows: tiles of four frames by four rows take 6×6
products, not 3×4×3×4. A walk over blocks that a cache holds makes the sums, lays beside one another the columns that
each column of the kernel sees, and leaves one batched matmul.
"""
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax import lax
from jaxtyping import Array, Float

from sora_jax.nn.taps import Pair
from sora_jax.nn.toom_cook import POINTS, mixed, plain, tiling, transforms

ROWS = 4  # of a tile
# Of one block: channels times positions (tiles of rows, by columns), 36 sums of three columns each: 3.5 MB. Twice as
# much takes 1.25 times as long on one core: 9 frames, 32 channels at 128×128 and 64 at 64×64; 1.5 times: 128 at 32×32.
CELLS = 2**13
DEEP = 128  # positions of a block at least: with half, 8×8 with 192 channels takes 1.3 times as long
# Positions of all tiles together from which on rows are summed: twice as many, and 3×16×16 with 128 channels takes 3
# times as long.
WORTH = 256
MANY = 8  # tiles of small frames in one block at most


def weight_slope(x: Float[Array, "b f h w c"], ct: Float[Array, "b fo h w d"], size: Pair, pad: tuple[Pair, Pair],
                 before: int) -> Float[Array, "3 kh kw c d"]:
    """Gradient of `winograd.causal` in a kernel of `size` = (kh, kw), in float32; the first frames one by one, as
    there."""
    tile, tiles, odd = tiling(ct.shape[1])
    slopes = []
    for place in range(odd):
        first = max(0, before - place)
        slope = _walk(x, ct, (place - before + first, place, 1, 1), plain(3 - first), size, pad)
        slopes.append(jnp.pad(slope, ((first, 0), *4 * [(0, 0)])))
    if tiles:
        slopes.append(_walk(x, ct, (odd - before, odd, tiles, tile), transforms(POINTS[tile], tile), size, pad))
    return sum(slopes)


def _walk(x, ct, span, time, size, pad):
    """Of `span` = (seen, first, tiles, tile): the cotangents of `tiles` tiles from frame `first` on, which see `x` from
    frame `seen` on, maybe before the first. No padded copy of `x` is made: XLA would make it with `x`, and keep it."""
    (seen, first, tiles, tile), (kh, kw), (batch, _, h, w, c), d = span, size, x.shape, ct.shape[-1]
    rows = transforms(POINTS[ROWS], ROWS) if kh == 3 and batch * tiles * h * w >= WORTH else plain(kh)
    high, room = rows[1].shape[1], max(DEEP, CELLS // c)
    across = -(-w // room)
    wide = -(-w // across)
    down = -(-h // (high * max(1, room // wide)))
    tall = -(-h // (high * down)) * high
    fit = range(1, min(MANY, room * high // (tall * wide)) + 1)
    group = max((count for count in fit if batch * tiles % count == 0), default=1)  # tiles in a block
    more = down * tall - h, across * wide - w
    lead = (0, 0), (max(0, -seen), 0), *((low, up + over) for (low, up), over in zip(pad, more, strict=True)), (0, 0)
    edge = (0, 0), (0, 0), *((0, over) for over in more), (0, 0)

    def block(total, index):
        many, row, column = jnp.unravel_index(index, (batch * tiles // group, down, across))
        near, met = [], []
        for number in range(group):
            clip, place = jnp.divmod(many * group + number, tiles)
            at = clip, seen + place * tile, row * tall - pad[0][0], column * wide - pad[1][0], 0
            near.append(window(x, at, (1, len(time[2]), tall + kh - 1, wide + kw - 1, c), lead))
            at = clip, first + place * tile, row * tall, column * wide, 0
            met.append(window(ct, at, (1, tile, tall, wide, d), edge))
        left = rearrange(sums(jnp.concatenate(near), time[2], rows[2], high), "p q n m w c -> p q c n m w")
        left = jnp.stack([left[..., j : j + wide] for j in range(kw)], 2)
        left = rearrange(left, "p q j c n m w -> (p q) (j c) (n m w)")
        right = sums(jnp.concatenate(met), time[1], rows[1], high)
        right = rearrange(right, "p q n m w d -> (p q) (n m w) d")
        return total + jnp.matmul(left, right, preferred_element_type=jnp.float32), None

    zeros = jnp.zeros((len(time[2]) * len(rows[2]), kw * c, d))
    total, _ = lax.scan(block, zeros, jnp.arange(batch * tiles // group * down * across))
    total = rearrange(total, "(p q) (j c) d -> q p j c d", q=len(rows[2]), j=kw)
    total = jnp.stack([mixed(row, list(total)) for row in rows[0]], 1)
    return jnp.stack([mixed(row, list(total)) for row in time[0]])


def window(x: Float[Array, "..."], start: tuple, shape: tuple[int, ...],
           beyond: tuple[Pair, ...]) -> Float[Array, "..."]:
    """`shape` of `x` from `start` on, with zeros for what lies up to `beyond` outside."""
    inside, sizes = [], []
    for at, length, size in zip(start, x.shape, shape, strict=True):
        inside.append(jnp.clip(at, 0, max(0, length - size)))
        sizes.append(min(length, size))
    near = lax.dynamic_slice(x, inside, sizes)
    if not any(map(any, beyond)):
        return near
    offset = [low + at - place for (low, _), at, place in zip(beyond, start, inside, strict=True)]
    return lax.dynamic_slice(jnp.pad(near, beyond), offset, shape)


def sums(frames: Float[Array, "n f r w c"], time: np.ndarray, rows: np.ndarray,
         high: int) -> Float[Array, "p q n m w c"]:
    """Sums of rows by tiles of `high`, then of frames."""
    reach = frames.shape[2] - rows.shape[1] + 1
    seen = [frames[:, :, k : k + reach : high] for k in range(rows.shape[1])]
    rowed = jnp.stack([mixed(row, seen) for row in rows])
    return jnp.stack([mixed(row, [rowed[:, :, k] for k in range(time.shape[1])]) for row in time])
