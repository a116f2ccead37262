"""What a run says while it runs, on disk: one row of JSON per call, TensorBoard events, pictures, one record.

`metrics.jsonl` is the source of truth: floats read back exactly, NaN and infinity are the tokens `NaN` and `Infinity`
that Python's json reads (never null). Events go to `events/<phase>`, pictures to `media/`.
Only the first host writes; on the others every method does nothing.
"""
import contextlib
import io
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from einops import rearrange
from jaxtyping import UInt8
from PIL import Image
from tensorboardX import SummaryWriter
from tensorboardX.proto.summary_pb2 import Summary
from tqdm import tqdm

from sora_jax import disk
from sora_jax.page import Figure, Movie, Pre, Section, Table, Text, page
from sora_jax.types import InputError

__all__ = ["Figure", "Movie", "Pre", "Progress", "Section", "Table", "Text", "Writer", "animation", "page", "progress",
           "tile"]
METRICS, RECORD = "metrics.jsonl", "record.json"
log = logging.getLogger(__name__)


class Writer(contextlib.AbstractContextManager):
    """Writes into a run folder. Opening it mends a last row that a crash cut in half."""

    def __init__(self, folder: str | os.PathLike):
        self.folder, self.active = Path(folder), jax.process_index() == 0
        self._file, self._events, self._begin = None, {}, {}
        if self.active:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._keep(lambda row: True)

    def rows(self) -> list[dict[str, Any]]:
        """Every row of metrics so far, in order; raises InputError naming a line that is not one."""
        path = self.folder / METRICS
        return _parse(path, path.read_bytes().splitlines()) if path.is_file() else []

    def resume(self, step: int, phase: str = "") -> None:
        """Forget what was written past `step`: by this phase (the part of a prefix before "/"), or with "" by all.

        Call it when a run goes on from a restored point, so that every update is reported once.
        """
        self._begin[phase] = step + 1
        if self.active:
            def stays(row):
                mine = not phase or any(name.startswith(f"{phase}/") for name in row)
                return row["step"] <= step or not mine

            self._keep(stays)
            for events in self._events.values():
                events.close()
            self._events.clear()

    def write_scalars(self, step: int, scalars: dict[str, Any], prefix: str = "") -> None:
        """One row: the step, the time (seconds since 1970), and each scalar under `prefix` + its name."""
        if not self.active:
            return
        values = {name: float(value) for name, value in scalars.items()}
        self._file = self._file or open(self.folder / METRICS, "a")  # noqa: SIM115
        row = {"step": int(step), "time": round(time.time(), 1), **{prefix + name: v for name, v in values.items()}}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        events = self._writer(prefix.partition("/")[0] if "/" in prefix else "")
        for name, value in values.items():
            events.add_scalar((prefix + name).partition("/")[2] if "/" in prefix else name, value, step)

    def write_images(self, name: str, step: int, images: UInt8[np.ndarray, "b h w c"]) -> None:
        """Images, tiled into one PNG under `media/` and one event."""
        self.write_image(name, step, tile(images[:, None])[0])

    def write_image(self, name: str, step: int, image: UInt8[np.ndarray, "h w c"]) -> None:
        """One image as a PNG under `media/` and an event."""
        buffer = io.BytesIO()
        Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(buffer, "PNG")
        self._media(name, step, buffer.getvalue(), ".png", image.shape)

    def write_video(self, name: str, step: int, clips: UInt8[np.ndarray, "b f h w 3"], fps: float | int = 8) -> None:
        """Clips side by side as one looping GIF, under `media/` and as an event that TensorBoard plays."""
        video = tile(clips)
        self._media(name, step, animation(video, fps), ".gif", video.shape[1:])

    def write_record(self, record: dict[str, Any]) -> None:
        """The run's record, once, as one line of JSON. The same again does nothing; another is an InputError."""
        if not self.active:
            return
        path, text = self.folder / RECORD, json.dumps(record) + "\n"
        if path.is_file() and path.read_text() != text:
            raise InputError(f"{path} exists with another content; a run is recorded once")
        disk.write(path, text.encode())

    def flush(self) -> None:
        """Make the rows durable. Call it before a checkpoint is saved, so that no row of it can be lost."""
        if self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
        for events in self._events.values():
            events.flush()

    def close(self) -> None:
        """`flush`, and close every file."""
        self.flush()
        for open_file in (self._file, *self._events.values()):
            if open_file:
                open_file.close()
        self._file, self._events = None, {}

    def __exit__(self, *_):
        self.close()

    def _keep(self, stays: Callable[[dict], bool]) -> None:
        """Drop a cut last line, then the rows that do not stay; the file is only rewritten if it must change."""
        path = self.folder / METRICS
        if self._file:
            self._file.close()
            self._file = None
        old = path.read_bytes() if path.is_file() else b""
        lines = old.split(b"\n")
        cut = lines.pop()
        if not cut and lines and not lines[-1].endswith(b"}"):
            cut = lines.pop()
        if cut:
            log.warning("%s: removed a last line that was cut after %d bytes", path, len(cut))
        new = b"".join(line + b"\n" for line, row in zip(lines, _parse(path, lines), strict=True) if stays(row))
        if new != old:
            disk.write(path, new)

    def _writer(self, phase: str) -> SummaryWriter:
        if phase not in self._events:
            begin = self._begin.get(phase, self._begin.get(""))
            self._events[phase] = SummaryWriter(str(self.folder / "events" / phase), purge_step=begin, flush_secs=10)
        return self._events[phase]

    def _media(self, name: str, step: int, data: bytes, suffix: str, shape: tuple[int, ...]) -> None:
        if not self.active:
            return
        path = self.folder / "media" / f"{name.replace('/', '-')}-{step:08d}{suffix}"
        path.parent.mkdir(exist_ok=True)
        disk.write(path, data)
        picture = Summary.Image(height=shape[0], width=shape[1], colorspace=shape[2], encoded_image_string=data)
        summary = Summary(value=[Summary.Value(tag=name, image=picture)])
        self._writer("").file_writer.add_summary(summary, step)


def _parse(path: Path, lines: list[bytes]) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            raise InputError(f"{path}:{number}: not a row of metrics; remove that line") from None
    return rows


def tile(clips: UInt8[np.ndarray, "b f h w c"]) -> UInt8[np.ndarray, "f h2 w2 c"]:
    """Clips side by side in a grid as square as can be, the last row filled with black."""
    columns = int(np.ceil(np.sqrt(len(clips))))
    blank = np.zeros((-len(clips) % columns, *clips.shape[1:]), np.uint8)
    return rearrange(np.concatenate([clips, blank]), "(r s) f h w c -> f (r h) (s w) c", s=columns)


def animation(video: UInt8[np.ndarray, "f h w 3"], fps: float | int = 8) -> bytes:
    """A looping GIF. Frame times are whole hundredths of a second, at least two."""
    first, *rest = (Image.fromarray(frame) for frame in video)
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=rest, loop=0, duration=max(20, 10 * round(100 / fps)))
    return buffer.getvalue()


class Progress(contextlib.AbstractContextManager):
    """A bar on a terminal, a line every `every` seconds elsewhere. `update` counts, `set` shows values beside it."""

    def __init__(self, total: int, label: str, initial: int = 0, every: float = 10.0):
        self.total, self.label, self.initial, self.done, self.every = total, label, initial, initial, every
        self.values, self.active = "", jax.process_index() == 0
        self.started = self.said = time.monotonic()
        show = self.active and sys.stderr.isatty()
        self.bar = tqdm(total=total, desc=label, initial=initial, dynamic_ncols=True) if show else None

    def update(self, count: int = 1) -> None:
        """`count` more are done."""
        self.done += count
        if self.bar is not None:
            self.bar.update(count)
        elif time.monotonic() - self.said >= self.every:
            self._say()

    def set(self, **values: float) -> None:
        """Values to show with the count."""
        self.values = "".join(f", {name} {value:.4g}" for name, value in values.items())
        if self.bar is not None:
            self.bar.set_postfix_str(self.values[2:], refresh=False)

    def _say(self) -> None:
        self.said = time.monotonic()
        rate = (self.done - self.initial) / max(self.said - self.started, 1e-9)
        left = f", {_duration((self.total - self.done) / rate)} left" if rate and self.done < self.total else ""
        if self.active:
            share = self.done / max(self.total, 1)
            text = f"{self.label} {self.done}/{self.total} ({share:.0%}), {rate:.3g}/s{left}{self.values}"
            print(text, file=sys.stderr, flush=True)

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.close()
        else:
            self._say()


def progress(total: int, label: str, initial: int = 0, every: float = 10.0) -> Progress:
    """A progress display for a `with` block: rate, time left, and the values given to `set`."""
    return Progress(total, label, initial, every)


def _duration(seconds: float) -> str:
    minutes, hours = int(seconds / 60), int(seconds / 3600)
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min" if minutes else f"{int(seconds)} s"
