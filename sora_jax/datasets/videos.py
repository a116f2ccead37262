"""Video files as captioned clips, random access: a folder with sidecar captions, or a manifest (`video/listing.py`).

Clip i is a pure function of (config, files, i). A clip that cannot be read, or whose file is short or lies about
itself, is set aside in a log with its reason, and a substitute that depends on i alone stands in.
"""
import hashlib
import itertools
import json
import logging
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8

from sora_jax import video
from sora_jax.types import Clip, ConfigError, InputError
from sora_jax.video import listing

FITS = ("center", "native", "zoom")
REASONS = video.REASONS | {
    "outside": "the manifest points out of the folder", "row": "the manifest row makes no sense",
    "too_small": "smaller than one multiple of the crop",
    "length": "a part of a file that does not say how long it is",
}
WHOLE = (0.0, 1.0)
JUMPS = 32  # substitutes drawn by hash before the rest is tried in order
HEAD = 2**20  # bytes of a file that are hashed into the log
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Config:
    """Which files, and what part of them.

    `path` is a folder, or one video file. `fit`: "center" crops to the aspect and resizes by area; "native" keeps the
    file's own size, each side cut to a multiple of `multiple`; "zoom" resizes a crop of any size from `height` ×
    `width` to the largest, anywhere in the picture, mirrored or not, by the clip's number (of the "val" split the
    centre). `fps` 0 is the file's own rate. `windows` clips are taken from each file, spread evenly from its start (the
    only one if 1) to its end. Of the files, a `held_out` part, chosen by name, is the "val" split (if that rounds to no
    file, every split is everything). `span` is the part of each file that is used, as fractions of its length (or of
    its manifest row's); with a `held_span`, that part of every file is the "val" split instead, and no frame of a row
    is in both. `size` bounds the number of clips. Clips set aside are logged in `quarantine`; `limit` is bytes of RGB
    held at once; up to `cache` bytes of clips are kept decoded.
    """

    path: str = ""
    manifest: str = ""
    frames: int = 17
    height: int = 64
    width: int = 64
    fps: float = 8.0
    fit: str = "center"
    multiple: int = 8
    method: str = "nearest"
    windows: int = 1
    split: str = "train"
    held_out: float = 0.05
    span: tuple[float, ...] = WHOLE
    held_span: tuple[float, ...] = ()
    size: int = 10**9
    quarantine: str = "runs/quarantine.jsonl"
    limit: int = video.LIMIT
    cache: int = 2**28


def check(config: Config) -> None:
    """Raises ConfigError naming the field."""
    for name, known in (("fit", FITS), ("method", video.METHODS), ("split", listing.SPLITS)):
        if getattr(config, name) not in known:
            raise ConfigError(f"data.{name}={getattr(config, name)!r} is not one of {', '.join(known)}")
    for name in ("frames", "height", "width", "multiple", "windows", "size", "limit"):
        if getattr(config, name) < 1:
            raise ConfigError(f"data.{name}={getattr(config, name)} must be at least 1")
    if not 0 <= config.fps <= 1000:
        raise ConfigError(f"data.fps={config.fps} must be between 0 (the file's own rate) and 1000")
    if not 0 <= config.held_out < 1:
        raise ConfigError(f"data.held_out={config.held_out} must be a fraction below 1")
    if config.cache < 0:
        raise ConfigError(f"data.cache={config.cache} must be a number of bytes, 0 to keep nothing")
    for name, empty in (("span", False), ("held_span", True)):
        part = getattr(config, name)
        if not (empty and not part or len(part) == 2 and 0 <= part[0] < part[1] <= 1):
            raise ConfigError(f"data.{name}={tuple(part)} must be two fractions of a film, the first below the second, "
                              "such as (0.0, 0.5)")
    if config.held_span and max(config.span[0], config.held_span[0]) < min(config.span[1], config.held_span[1]):
        raise ConfigError(f"data.held_span={tuple(config.held_span)} overlaps data.span={tuple(config.span)}: what is "
                          "held out would be trained on; part them")


class Videos:
    """A random-access source of clips. `bad` maps each clip set aside so far to its record."""

    def __init__(self, config: Config, root: Path, rows: list[listing.Row]):
        self.config, self.root, self.rows, self.bad = config, root, rows, {}
        self.kept, self.room = {}, config.cache

    def __len__(self) -> int:
        return min(self.config.size, len(self.rows) * self.config.windows)

    def __getitem__(self, index: int) -> Clip:
        """Clip `index`, or its substitute. Raises InputError if not one clip of the source can be used."""
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} of a source of {len(self)}")
        for candidate in self.walk(int(index)):
            if candidate not in self.bad:
                try:
                    return self.kept.get(candidate) or self.keep(candidate, self.clip(candidate))
                except video.MediaError as error:
                    self.set_aside(candidate, error)
        first = self.bad[min(self.bad)]
        raise InputError(f"none of the {len(self)} clips in {str(self.root)!a} can be used; the first is set aside as "
                         f"{first['reason']}: {first['detail']}")

    def __getstate__(self) -> dict:
        """Without the decoded clips: another process decodes its own."""
        return {**self.__dict__, "kept": {}, "room": self.config.cache}

    def keep(self, index: int, clip: Clip) -> Clip:
        """The clip itself, remembered while there is room: a few long films are asked for the same clips for ever.
        Nothing is ever dropped for another, so that more clips than fit cost no more than none kept."""
        if clip.video.nbytes <= self.room and index not in self.kept:
            clip.video.flags.writeable = False
            if self.kept.setdefault(index, clip) is clip:
                self.room -= clip.video.nbytes
        return clip

    def walk(self, index: int) -> Iterator[int]:
        """The clip itself, then its substitutes: by hash, so that no neighbour is seen twice as often; at last all."""
        size = len(self)
        jumps = (listing.hashed(f"{index} {k}") % size for k in range(JUMPS))
        return itertools.chain([index], jumps, ((index + k) % size for k in range(size)))

    def clip(self, index: int) -> Clip:
        """Clip `index` itself. Raises MediaError."""
        row, config = self.rows[index // self.config.windows], self.config
        if row.fault:
            raise video.MediaError("row", f"manifest line {row.line}: {row.fault}")
        path = self.locate(row)
        info = video.probe(path, config.limit)
        rate = config.fps or info.fps
        begin, end = self.span(row, info)
        spare = end - begin - (config.frames - 1) / rate
        if spare <= 0:
            raise video.MediaError("short", f"{row.name!a} has {max(0, end - begin):.3f} s; {config.frames} frames "
                                            f"at {rate:g} fps need {config.frames / rate:.3f} s")
        place = index % config.windows / max(1, config.windows - 1)
        room = max(0.0, spare - 1 / info.fps) if math.isfinite(spare) else 0.0  # a stream does not say how long it is
        start = begin + place * room
        pixels, _ = video.read(path, count=config.frames, fps=rate, start=start, method=config.method,
                               limit=config.limit, each=lambda frame: self.shape(frame, index))
        captions = row.captions or (listing.sidecar(path),)
        truth = {"path": row.name, "index": index, "start": start, "captions": list(captions)}
        return Clip(pixels, captions[0], float(rate), truth)

    def span(self, row: listing.Row, info: video.Info) -> tuple[float, float]:
        """The seconds of a row that are used. Where a film is cut, a frame's time is left out on either side, so that
        no time between them is nearest to, or blended with, a frame of the other part. Raises MediaError."""
        config, end = self.config, min(row.end, info.seconds or row.end)
        part = config.held_span if config.held_span and config.split == "val" else config.span
        if tuple(part) == WHOLE:
            return row.start, end
        if math.isinf(end):
            raise video.MediaError("length", f"{row.name!a} does not say how long it is, so there is no part {part} of "
                                             "it; write it again as MP4")
        first, last = (row.start + fraction * (end - row.start) for fraction in part)
        return first + (part[0] > 0) / info.fps, last - (part[1] < 1) / info.fps

    def locate(self, row: listing.Row) -> Path:
        """The file of a row; a manifest may not lead out of the folder, by name or by link."""
        path = self.root / row.name
        if row.line and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.root)):
            raise video.MediaError("outside", f"manifest line {row.line}: {row.name!a} is outside {str(self.root)!a}; "
                                              "set data.path to a folder that holds all files")
        return path

    def shape(self, frame: UInt8[np.ndarray, "h w 3"], index: int) -> UInt8[np.ndarray, "h2 w2 3"]:
        """One decoded frame of clip `index`, cropped and resized."""
        config = self.config
        if config.fit == "zoom" and config.split != "val":
            return zoomed(frame, config.height, config.width, np.random.default_rng(index))
        if config.fit != "native":
            return video.resize_area(video.crop_center(frame, config.height, config.width), config.height, config.width)
        high, wide = (side // config.multiple * config.multiple for side in frame.shape[:2])
        if not high or not wide:
            raise video.MediaError("too_small", f"a picture of {frame.shape[0]}x{frame.shape[1]} pixels is smaller "
                                                f"than data.multiple={config.multiple}")
        return video.window(frame, high, wide)

    def set_aside(self, index: int, error: video.MediaError) -> None:
        """Remember a clip that cannot be used, and log it: once per file and reason."""
        row = self.rows[index // self.config.windows]
        known = any(old["path"] == row.name and old["reason"] == error.reason for old in list(self.bad.values()))
        record = {"path": row.name, "line": row.line, "reason": error.reason, "detail": str(error),
                  **fingerprint(self.root / row.name), "decoder": f"av {av.__version__}"}
        if self.bad.setdefault(index, record) is not record or known:
            return
        log.warning("set aside as %s: %s", error.reason, error)
        path = Path(self.config.quarantine).expanduser()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "a+", encoding="utf-8") as file:
                file.seek(0)
                line = json.dumps(record, sort_keys=True) + "\n"
                if line not in file:
                    file.write(line)
        except OSError as failure:
            log.warning("cannot write data.quarantine: %s", failure)


def zoomed(frame: UInt8[np.ndarray, "h w 3"], height: int, width: int,
           rng: np.random.Generator) -> UInt8[np.ndarray, "h2 w2 3"]:
    """A crop of the aspect height:width, its size uniform in logarithm up to the largest that fits, mirrored half of
    the time, resized by area. Pictures smaller than height × width give their largest crop."""
    high, wide = video.crop_center(frame, height, width).shape[:2]
    share = min(1.0, height / high) ** rng.random()
    high, wide = max(1, round(share * high)), max(1, round(share * wide))
    top, left = (round(rng.random() * (side - size)) for side, size in zip(frame.shape, (high, wide), strict=False))
    crop = frame[top:top + high, left:left + wide]
    return video.resize_area(np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop), height, width)


def fingerprint(path: Path) -> dict:
    """Size and hash of the first bytes of a regular file, for the log; nothing of anything else."""
    try:
        if not path.is_file():
            return {}
        with open(path, "rb") as file:
            return {"size": path.stat().st_size, "head": hashlib.blake2b(file.read(HEAD), digest_size=16).hexdigest()}
    except (OSError, ValueError):
        return {}


def source(config: Config) -> Videos:
    """The clips of a config, one of them already read. Raises ConfigError for a field, InputError for the files."""
    check(config)
    root = Path(config.path).expanduser()
    if not config.path or not root.exists():
        raise InputError(f"data.path={config.path!a} does not exist; set it to a folder of videos (python -m "
                         "launch.films gets three)")
    if not config.manifest:
        rows, root = (listing.scan(root), root) if root.is_dir() else ([listing.Row(root.name)], root.parent)
    elif root.is_dir():
        manifest = Path(config.manifest).expanduser()
        manifest = manifest if manifest.is_file() else root / manifest
        if not manifest.is_file():
            raise InputError(f"data.manifest={config.manifest!a} is not a file, neither here nor in {str(root)!a}")
        rows = listing.listed(manifest)
    else:
        raise InputError(f"data.path={config.path!a} is a file; with data.manifest it is the folder of its paths")
    split = "all" if config.held_span else config.split
    videos = Videos(config, root, listing.chosen(rows, split, config.held_out))
    videos[0]
    return videos
