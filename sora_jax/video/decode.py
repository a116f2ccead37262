"""Files in: a path becomes RGB frames through PyAV, or a `MediaError` with a reason.

Only local regular files are opened, the demuxer forced from the first bytes and `file:` the only protocol, so that a
playlist or URL under a media name is never followed. Declared size is held against a byte limit before decoding;
files cut short of their index, with damaged frames, or with fewer frames than they declare are refused.
"""
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import av
import numpy as np
from jaxtyping import UInt8

from sora_jax.types import InputError
from sora_jax.video.frames import CLOSE, Number, sample

LIMIT = 2**29  # bytes of decoded RGB that one read may hold
DECODER_FRAMES = 16  # what a decoder keeps for reference besides the frames it hands over
INDEX_TAIL = 256  # entries at the end of an index that are held against the file size
SIGNATURES = (
    (4, b"ftyp", "mov"), (4, b"moov", "mov"), (4, b"mdat", "mov"), (4, b"wide", "mov"), (4, b"free", "mov"),
    (0, b"\x1aE\xdf\xa3", "matroska"), (8, b"AVI ", "avi"),
)
"""Containers that are opened: (offset, magic bytes, FFmpeg demuxer)."""
REASONS = {
    "missing": "no such file", "not_file": "a folder, pipe, socket or device", "empty": "no bytes",
    "format": "not a container that is opened", "no_video": "no video track", "too_large": "over the byte limit",
    "truncated": "the index points past the end of the file", "short": "fewer frames than declared or asked for",
    "resized": "the picture size changes inside the stream", "unreadable": "the demuxer or decoder failed",
}

Place = str | os.PathLike
Frame = UInt8[np.ndarray, "h w 3"]
Video = UInt8[np.ndarray, "f h w 3"]


class MediaError(InputError):
    """A video file that cannot be used. `reason` is a key of `REASONS`; the message is one line for people."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


class Info(NamedTuple):
    """What a file says of itself. `frames` is 0 when neither a count nor a duration is declared."""

    width: int
    height: int
    frames: int
    fps: float
    seconds: float
    container: str
    codec: str


def sniff(path: Place) -> str:
    """The demuxer for a regular file, from its first bytes and never from its name. Raises MediaError."""
    name = ascii(str(path))
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
        head = b""
        if regular:
            with open(path, "rb") as file:
                head = file.read(16)
    except (OSError, ValueError) as error:
        reason = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
        raise MediaError(reason, f"cannot open {name}: {getattr(error, 'strerror', None) or error}") from error
    if not regular:
        raise MediaError("not_file", f"{name} is not a regular file")
    if not head:
        raise MediaError("empty", f"{name} is empty")
    for offset, magic, demuxer in SIGNATURES:
        if head[offset:].startswith(magic):
            return demuxer
    raise MediaError("format", f"{name} is not an MP4, MOV, MKV, WebM or AVI file; convert it to MP4")


@contextmanager
def opened(path: Place, limit: int) -> Iterator[tuple[av.container.InputContainer, av.VideoStream, Info]]:
    """A sniffed file, its declarations checked; any FFmpeg error inside the block becomes a MediaError."""
    demuxer, name = sniff(path), ascii(str(path))
    most = limit // (3 * DECODER_FRAMES)
    try:
        url = f"file:{os.path.abspath(path)}"
        with av.open(url, format=demuxer, options={"protocol_whitelist": "file"}) as container:
            stream = container.streams.best("video")
            if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
                raise MediaError("no_video", f"{name} has no video track")
            if stream.codec_context is None:
                raise MediaError("unreadable", f"{name} is in a codec that this FFmpeg cannot decode; use H.264")
            info = describe(container, stream)
            if info.width < 1 or info.height < 1:
                raise MediaError("unreadable", f"{name} declares no picture size")
            if info.width * info.height > most:
                raise MediaError("too_large", f"{name} declares {info.width}x{info.height} pixels, over the {most} "
                                              f"that a limit of {limit} bytes allows; raise the limit or shrink it")
            entries, size = stream.index_entries, os.path.getsize(path)
            tail = entries[max(0, len(entries) - INDEX_TAIL):len(entries)] if len(entries) else []
            end = max((entry.pos + entry.size for entry in tail), default=0)
            if end > size:
                raise MediaError("truncated", f"{name} is cut short: its index needs {end} bytes, it has {size}")
            stream.codec_context.options = {"max_pixels": str(most)}
            yield container, stream, info
    except (av.error.FFmpegError, OSError, EOFError, MemoryError, OverflowError, UnicodeError) as error:
        cause = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise MediaError("unreadable", f"cannot decode {name}: {cause.splitlines()[0]}") from error


def describe(container: av.container.InputContainer, stream: av.VideoStream) -> Info:
    """The declared facts of an open stream; count and duration stand in for one another."""
    rate = next((r for r in (stream.average_rate, stream.guessed_rate, stream.base_rate) if r and 0 < r <= 1000), 25)
    seconds = 0.0
    if stream.duration and stream.time_base:
        seconds = float(stream.duration * stream.time_base)
    elif container.duration:
        seconds = container.duration / av.time_base
    else:
        seconds = float((stream.frames or 0) / rate)
    context, frames = stream.codec_context, stream.frames or max(0, round(seconds * rate))
    return Info(context.width, context.height, frames, float(rate), max(0.0, seconds), container.format.name,
                context.name)


def probe(path: Place, limit: int = LIMIT) -> Info:
    """What the file declares, no frame decoded. Raises MediaError, also for a file cut short of its own index."""
    with opened(path, limit) as (_, _, info):
        return info


def decoded(container: av.container.InputContainer, stream: av.VideoStream, info: Info, name: str,
            start: Number) -> Iterator[tuple[float, av.VideoFrame]]:
    """(seconds from the start of the file, frame) in display order, from the last key frame at or before `start`."""
    first, time = stream.start_time or 0, -1 / info.fps
    if start > 0 and len(stream.index_entries):
        container.seek(first + int(start / stream.time_base), stream=stream)
        time += start
    for frame in container.decode(stream):
        if (frame.width, frame.height) != (info.width, info.height):
            raise MediaError("resized", f"{name} declares {info.width}x{info.height} pixels and holds a frame of "
                                        f"{frame.width}x{frame.height}")
        if frame.is_corrupt:
            raise MediaError("unreadable", f"{name} has a damaged frame after {time:.3f} s")
        given = time + 1 / info.fps if frame.pts is None else float((frame.pts - first) * stream.time_base)
        time = max(time, given)
        yield time, frame


def upright(frame: av.VideoFrame) -> Frame:
    """RGB of a decoded frame; a display rotation in the file is applied in quarter turns."""
    return np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))


def read(path: Place, *, count: int | None = None, fps: Number | None = None, start: Number = 0.0,
         each: Callable[[Frame], np.ndarray] | None = None, method: str = "nearest",
         limit: int = LIMIT) -> tuple[Video, float]:
    """Decode (clip, fps): every frame from `start` seconds on, or exactly `count` of them at `fps` (None: as filmed).

    `each` maps one RGB frame as it comes (crop, resize), so that only its results are held. Raises MediaError before
    decoding if declared width x height x frames is over `limit` bytes, and while decoding for damage or if fewer
    frames come than the file declares or the caller asked for. `fps` alone takes as many frames as there is time for.
    """
    name = ascii(str(path))
    with opened(path, limit) as (container, stream, info):
        held = count or info.frames
        if each is None and info.width * info.height * 3 * held > limit:
            raise MediaError("too_large", f"{name} declares {info.width}x{info.height} pixels x {held} frames, over "
                                          f"the limit of {limit} bytes; read fewer frames or raise the limit")
        source = decoded(container, stream, info, name, start)
        if count is None and fps is None:
            source = whole(source, stream, info, name, start)
            made = (upright(frame) for time, frame in source if time >= start - CLOSE)
            return gather((each(frame) for frame in made) if each else made, limit, name), info.fps
        rate = float(fps or info.fps)
        count = count or max(1, int((info.seconds - start) * rate + CLOSE))
        times = start + np.arange(count) / rate
        made = sample(source, times, method, 1 / info.fps, lambda frame: (each or np.asarray)(upright(frame)))
        return gather(made, limit, name), rate


def stream(path: Place, each: Callable[[Frame], np.ndarray] = np.asarray, limit: int = LIMIT) -> Iterator[np.ndarray]:
    """`each` of every frame of a file in turn, as filmed; none is held. Raises MediaError, for a file that is short or
    damaged only when it shows."""
    with opened(path, limit) as (container, track, info):
        frames = decoded(container, track, info, ascii(str(path)), 0.0)
        for _, frame in whole(frames, track, info, ascii(str(path)), 0.0):
            yield each(upright(frame))


def whole(source: Iterable[tuple[float, av.VideoFrame]], stream: av.VideoStream, info: Info, name: str,
          start: Number) -> Iterator[tuple[float, av.VideoFrame]]:
    """Pass the stream through; MediaError("short") if it ends before the declared frames and seconds are out."""
    frames, time = 0, 0.0
    for time, frame in source:
        frames += 1
        yield time, frame
    # An edit list drops frames on purpose and marks them in the index; without a full count the clock must do.
    declared = sum(not entry.is_discard for entry in stream.index_entries) if stream.frames and start == 0 else 0
    if not frames or frames < declared or time + 1.5 / info.fps < info.seconds:
        raise MediaError("short", f"{name} declares {info.frames} frames, {info.seconds:.3f} s; "
                                  f"{frames} came out, up to {time:.3f} s")


def gather(frames: Iterable[np.ndarray], limit: int, name: str) -> Video:
    """Stack frames, refusing to hold more than `limit` bytes whatever the file declared."""
    kept, size = [], 0
    try:
        for frame in frames:
            size += frame.nbytes
            if size > limit:
                raise MediaError("too_large", f"{name} decodes to more than the limit of {limit} bytes")
            kept.append(frame)
    except InputError as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError("short", f"{name}: {error}") from error
    return np.stack(kept)
