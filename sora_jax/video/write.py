"""Files out, for people: MP4 that browsers play, GIF, WebP, and one picture of many clips.

H.264 yuv420p loses colour on small saturated clips: never score a metric on a clip read back from one; `lossless=True`
(RGB H.264, few players show it) returns the same bytes. Files appear whole or not at all.
"""
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from sora_jax.types import InputError
from sora_jax.video.frames import Number, enlarge

BT709, LIMITED = 1, 1  # ITU-T H.273 code points: without them each player guesses its own colours
Place = str | os.PathLike
LINE = 12  # pixels of a label's text


def checked(video: np.ndarray) -> UInt8[np.ndarray, "f h w 3"]:
    """The clip itself if it can be shown. Raises InputError."""
    video = np.asarray(video)
    if video.dtype != np.uint8 or video.ndim != 4 or video.shape[-1] != 3 or 0 in video.shape:
        raise InputError(f"a clip to write is uint8 f h w 3, got {video.dtype} {video.shape}; apply to_uint8 to floats")
    return video


def even(video: UInt8[np.ndarray, "f h w 3"]) -> UInt8[np.ndarray, "f h2 w2 3"]:
    """Repeat the last row or column where a side is odd: yuv420p halves both."""
    return np.pad(video, ((0, 0), (0, video.shape[1] % 2), (0, video.shape[2] % 2), (0, 0)), mode="edge")


def encode_mp4(video: UInt8[np.ndarray, "f h w 3"], fps: Number, *, scale: int | None = None, crf: int = 18,
               lossless: bool = False) -> bytes:
    """H.264 in MP4. Small clips are enlarged (`frames.enlarge`) by `scale`, odd sides padded; lossless does neither."""
    video = checked(video)
    if not 0 < fps <= 1000:
        raise InputError(f"fps {fps} is not between 0 and 1000")
    video = video if lossless else even(enlarge(video, scale))
    buffer = io.BytesIO()
    mux(buffer, iter(video), fps, crf, lossless)
    return buffer.getvalue()


def mux(place: io.BytesIO | str, frames: Iterator[UInt8[np.ndarray, "h w 3"]], fps: Number, crf: int = 18,
        lossless: bool = False) -> int:
    """H.264 in MP4, frame by frame as they come; returns how many came. Sides are even unless lossless."""
    count, stream = 0, None
    with av.open(place, "w", format="mp4") as container:
        for array in frames:
            count += 1
            if stream is None:
                stream = track(container, array.shape, Fraction(fps).limit_denominator(1001), crf, lossless)
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            if not lossless:
                frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode())
    return count


def track(container: av.container.OutputContainer, shape: Sequence[int], rate: Fraction, crf: int,
          lossless: bool) -> av.VideoStream:
    """The video track of a new file."""
    stream = container.add_stream("libx264rgb" if lossless else "libx264", rate=rate)
    stream.height, stream.width = shape[:2]
    stream.pix_fmt = "rgb24" if lossless else "yuv420p"
    stream.options = {"crf": "0" if lossless else str(crf)}
    if not lossless:
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED
    return stream


def stream_mp4(path: Place, frames: Iterable[UInt8[np.ndarray, "h w 3"]], fps: Number, crf: int = 18) -> int:
    """Write frames as they come, none held, odd sides padded; returns how many came. The file appears when all have:
    what their maker raises passes through and leaves nothing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        count = mux(str(temporary), (even(frame[None])[0] for frame in frames), fps, crf)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def commit(path: Place, data: bytes) -> Path:
    """Write bytes under a temporary name beside `path`, then rename. Makes the folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_mp4(path: Place, video: UInt8[np.ndarray, "f h w 3"], fps: Number, *, scale: int | None = None,
              crf: int = 18, lossless: bool = False) -> Path:
    """`encode_mp4` to a file."""
    return commit(path, encode_mp4(video, fps, scale=scale, crf=crf, lossless=lossless))


def encode_animation(video: UInt8[np.ndarray, "f h w 3"], fps: Number, scale: int | None, kind: str,
                     options: dict) -> bytes:
    """An endless Pillow animation; GIF rounds a frame's time to 10 ms."""
    first, *rest = (Image.fromarray(frame) for frame in enlarge(checked(video), scale))
    buffer = io.BytesIO()
    first.save(buffer, kind, save_all=True, append_images=rest, duration=round(1000 / fps), loop=0, **options)
    return buffer.getvalue()


def write_gif(path: Place, video: UInt8[np.ndarray, "f h w 3"], fps: Number, *,
              scale: int | None = None) -> Path:
    """An endless GIF, 256 colours a frame. `write_webp` is smaller, faster and truer."""
    return commit(path, encode_animation(video, fps, scale, "GIF", {}))


def write_webp(path: Place, video: UInt8[np.ndarray, "f h w 3"], fps: Number, *, scale: int | None = None,
               lossless: bool = False, quality: int = 85) -> Path:
    """An endless animated WebP."""
    return commit(path, encode_animation(video, fps, scale, "WEBP", {"lossless": lossless, "quality": quality}))


WRITERS = {".mp4": write_mp4, ".gif": write_gif, ".webp": write_webp}
"""How a clip is written, by the ending of its file: `(path, video, fps)`."""


def contact_sheet(clips: Sequence[UInt8[np.ndarray, "_f _h _w 3"]], *, columns: int = 8,
                  labels: Sequence[str] | None = None, scale: int | None = None,
                  gap: int = 2) -> UInt8[np.ndarray, "h w 3"]:
    """One row per clip, `columns` frames spread evenly from its first to its last, each row under its label."""
    rows = [enlarge(checked(clip)[spread(len(clip), columns)], scale) for clip in clips]
    if not rows:
        raise InputError("a contact sheet needs at least one clip")
    strip = LINE + 6 if labels is not None else 0
    high, wide = max(row.shape[1] for row in rows), max(row.shape[2] for row in rows)
    deep = max(len(row) for row in rows)
    sheet = Image.new("RGB", (gap + deep * (wide + gap), gap + len(rows) * (high + strip + gap)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(LINE)
    for i, row in enumerate(rows):
        top = gap + i * (high + strip + gap)
        if labels is not None:
            pen.text((gap + 2, top + 2), " ".join(str(labels[i]).split()), fill="black", font=font)
        for j, frame in enumerate(row):
            sheet.paste(Image.fromarray(frame), (gap + j * (wide + gap), top + strip))
    return np.asarray(sheet)


def spread(frames: int, columns: int) -> list[int]:
    """Frame numbers from first to last, evenly, none twice."""
    return sorted({round(float(i)) for i in np.linspace(0, frames - 1, min(frames, columns))})
