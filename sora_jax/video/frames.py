"""Arrays to arrays: pixels ⇄ [-1, 1], resampling in time, exact area resizing, centred crops.

All numpy on uint8 `f h w c`, except that `to_float` and `to_uint8` take and return numpy or JAX arrays alike.
Area resizing averages over the exact footprint of each output pixel, in integers, for any ratio.
"""
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from einops import rearrange, repeat
from jaxtyping import Array, Float, Integer, UInt8

from sora_jax.types import InputError

CLOSE = 1e-6  # seconds; container time stamps are rationals, ours are floats
Number = float | int
METHODS = ("nearest", "linear")


def to_float(video: UInt8[Array | np.ndarray, "..."]) -> Float[Array | np.ndarray, "..."]:
    """uint8 to float32 in [-1, 1], `x / 127.5 - 1`; usable inside `jit`."""
    return video.astype("float32") / 127.5 - 1


def to_uint8(video: Float[Array | np.ndarray, "..."]) -> UInt8[Array | np.ndarray, "..."]:
    """The inverse of `to_float`, exact on its image; values outside [-1, 1] are clipped."""
    return ((video.astype("float32") + 1) * 127.5).round().clip(0, 255).astype("uint8")


def sample(stream: Iterable[tuple[float, object]], times: Iterable[float], method: str, period: float,
           each: Callable[[object], np.ndarray]) -> Iterator[np.ndarray]:
    """`each(frame)` at every time of an increasing list, from a stream of (seconds, frame) with increasing seconds.

    "nearest" takes the closest frame (ties go to the later one), "linear" blends the two neighbours; the last frame
    lasts one `period`. Reads no further than needed. Raises InputError if the stream ends before the times do.
    """
    if method not in METHODS:
        raise InputError(f"no resampling method {method!r}; it is one of {', '.join(METHODS)}")
    wanted, left, last = list(times)[::-1], None, None
    for last in stream:
        left = last if left is None else left
        while wanted and wanted[-1] <= last[0] + CLOSE:
            yield between(left, last, wanted.pop(), method, each)
        if not wanted:
            return
        left = last
    while wanted and last is not None and wanted[-1] < last[0] + period - CLOSE:
        wanted.pop()
        yield each(last[1])
    if wanted:
        end = 0.0 if last is None else last[0] + period
        raise InputError(f"frames end at {end:.3f} s, one is needed at {wanted[-1]:.3f} s")


def between(left: tuple[float, object], right: tuple[float, object], time: float, method: str,
            each: Callable[[object], np.ndarray]) -> np.ndarray:
    """The frame at `time` given its two neighbours."""
    gap = right[0] - left[0]
    weight = min(1.0, max(0.0, (time - left[0]) / gap)) if gap > 0 else 1.0
    if method == "nearest" or min(weight, 1 - weight) * gap < CLOSE:
        return each((right if weight * gap >= gap / 2 - CLOSE else left)[1])
    mixed = (1 - weight) * each(left[1]).astype(np.float32) + weight * each(right[1]).astype(np.float32)
    return np.rint(mixed).astype(np.uint8)


def resample(video: UInt8[np.ndarray, "f h w c"], fps_in: Number, fps_out: Number, count: int,
             method: str = "nearest") -> UInt8[np.ndarray, "{count} h w c"]:
    """Exactly `count` frames at `fps_out` from a clip at `fps_in`, both from 0 s; InputError if it is too short."""
    stream = ((i / fps_in, frame) for i, frame in enumerate(video))
    return np.stack(list(sample(stream, np.arange(count) / fps_out, method, 1 / fps_in, np.asarray)))


def mass(rows: Integer[np.ndarray, "h *rest"], size: int) -> Integer[np.ndarray, "{size} *rest"]:
    """Sums over `size` equal stretches of the first axis, in units of 1/size of a row: integers, cut rows included."""
    count = len(rows)
    whole, part = np.divmod(np.arange(size + 1) * count, size)
    inner = np.add.reduceat(rows, whole[:-1], axis=0, dtype=np.int32 if rows.dtype == np.uint8 else rows.dtype)
    inner[whole[:-1] == whole[1:]] = 0  # reduceat gives the row itself for an empty stretch
    edge = rows[np.minimum(whole, count - 1)] * part.reshape(-1, *[1] * (rows.ndim - 1)).astype(inner.dtype)
    return inner * size + edge[1:] - edge[:-1]


def resize_area(video: UInt8[np.ndarray, "*f h w c"], height: int, width: int) -> UInt8[np.ndarray, "*f h2 w2 c"]:
    """Average over the exact area of every output pixel, rounded half to even. A clip or a single frame."""
    h, w = video.shape[-3:-1]
    if (h, w) == (height, width):
        return video
    if video.ndim > 3:
        return np.stack([resize_area(frame, height, width) for frame in video])
    # No matmul: a threaded BLAS under a loader's threads was measured 60 times slower on a busy machine.
    rows = rearrange(mass(video, height).astype(np.int64), "h w c -> w h c")
    return np.rint(rearrange(mass(rows, width), "w h c -> h w c") / (h * w)).astype(np.uint8)


def crop_center(video: UInt8[np.ndarray, "*f h w c"], height: int, width: int) -> UInt8[np.ndarray, "*f h2 w2 c"]:
    """The largest centred window with aspect height:width. No resize: `resize_area` follows."""
    h, w = video.shape[-3:-1]
    high, wide = min(h, max(1, round(w * height / width))), min(w, max(1, round(h * width / height)))
    return window(video, high, wide)


def window(video: UInt8[np.ndarray, "*f h w c"], height: int, width: int) -> UInt8[np.ndarray, "*f h2 w2 c"]:
    """The centred window of exactly `height` x `width` pixels."""
    h, w = video.shape[-3:-1]
    if height > h or width > w:
        raise InputError(f"a {height}x{width} window does not fit a {h}x{w} picture")
    top, left = (h - height) // 2, (w - width) // 2
    return video[..., top:top + height, left:left + width, :]


def enlarge(video: UInt8[np.ndarray, "*f h w c"], scale: int | None = None) -> UInt8[np.ndarray, "*f h2 w2 c"]:
    """Repeat every pixel `scale` times each way; None brings small clips to about 256 pixels, 8 times at most."""
    scale = scale or min(8, max(1, 256 // max(video.shape[-3:-1])))
    return repeat(video, "... h w c -> ... (h a) (w b) c", a=scale, b=scale)
