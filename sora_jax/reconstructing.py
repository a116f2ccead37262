"""Films through an autoencoder and back, chunk by chunk and, where frames are large, tile by tile.

Enters: an open autoencoder and video files of any length. Leaves, per film: both side by side as MP4, a sheet with
differences, and PSNR and SSIM. One chunk is held, and a cache for each tile, however long the film.
"""
import collections
import itertools
import math
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax import nnx
from jaxtyping import Float, UInt8

from sora_jax import appraise, report, streaming, tiling, video
from sora_jax.evals import reconstruction
from sora_jax.types import InputError
from sora_jax.video import listing

SHOWN = 8  # frames on a sheet


class Options(NamedTuple):
    """`size` (height, width) crops to the aspect and resizes, None keeps the film's own, cut to whole latent cells;
    `frames` at most, 0 for all; `chunk` latent frames at a time; frames with a side over `tile` pixels are cut into
    tiles that overlap by `overlap`."""

    size: tuple[int, int] | None = None
    frames: int = 0
    chunk: int = 2
    tile: int = 512
    overlap: int = 64


def films(path: Path) -> tuple[Path, list[str]]:
    """(folder, names in it) of a video file or of a folder of them. Raises InputError."""
    if not path.exists():
        raise InputError(f"no video file or folder at {path}")
    return (path, [row.name for row in listing.scan(path)]) if path.is_dir() else (path.parent, [path.name])


def reconstruct(vae: nnx.Module, path: Path, out: Path, options: Options) -> dict[str, Any]:
    """Every film of a file or folder: "films", figures by name, and "aside", {"reason", "detail"} of what could not be
    used. Raises InputError if nothing could, or a result would be written among the originals."""
    check(options, *vae.config.ratio[1:])
    root, names = films(path)
    here, there = (os.path.realpath(place) for place in (out, root))
    if Path(here).is_relative_to(there) if path.is_dir() else here == there:
        raise InputError(f"--out={out} is where the originals are; give another folder")
    found, aside = {}, {}
    for k, name in enumerate(names, 1):
        try:
            found[name] = film(vae, root / name, out / name, options, f"{k}/{len(names)} {name}")
        except video.MediaError as error:
            aside[name] = {"reason": error.reason, "detail": str(error)}
    if not found:
        raise InputError(f"none of the {len(names)} films in {path} can be used; the first is set aside as "
                         + "{reason}: {detail}".format(**aside[names[0]]))
    return {"films": found, "aside": aside}


def check(options: Options, high: int, wide: int) -> None:
    """InputError for a number that cannot be, with latent cells of `high` by `wide` pixels."""
    for name in ("chunk", "tile"):
        if getattr(options, name) < 1:
            raise InputError(f"--{name}={getattr(options, name)} must be positive")
    both = math.lcm(high, wide)
    sides = {"tile": (options.tile, both), "overlap": (options.overlap, both)}
    if options.size:
        sides |= {"height": (options.size[0], high), "width": (options.size[1], wide)}
    for name, (side, cell) in sides.items():
        if side % cell or side < 0:
            raise InputError(f"--{name}={side} is not a multiple of {cell}, the autoencoder's cells; give one")
    if options.overlap >= options.tile:
        raise InputError(f"--overlap={options.overlap} must be smaller than --tile={options.tile}")


def film(vae: nnx.Module, source: Path, target: Path, options: Options, label: str) -> dict[str, Any]:
    """One film; `target` names its MP4, and with another ending its sheet. Raises MediaError, and leaves nothing."""
    info = video.probe(source)
    total = min(info.frames, options.frames or info.frames)
    passage, tally = Passage(vae, options), Tally(total)
    frames = video.stream(source, lambda frame: shaped(frame, options.size, vae.config.ratio[1:], source.name))
    target = target if target.suffix.lower() == ".mp4" else target.with_name(f"{target.name}.mp4")
    with report.progress(total, label) as bar:

        def pairs() -> Iterator[UInt8[np.ndarray, "h w 3"]]:
            for x, y in passage.through(itertools.islice(frames, options.frames or None)):
                tally.add(x, y)
                bar.update(len(x))
                yield from np.concatenate([x, y], 2)

        count = video.stream_mp4(target, pairs(), info.fps)
    video.write_image(target.with_suffix(".png"), tally.sheet())
    return {**tally.figures(), "frames": count, "size": tally.size, "fps": info.fps, **passage.seams()}


def shaped(frame: UInt8[np.ndarray, "h w 3"], size: tuple[int, int] | None, cell: tuple[int, int],
           name: str) -> UInt8[np.ndarray, "h2 w2 3"]:
    """A frame in the size that is asked for, or its own, cut to whole cells. Raises MediaError if it has none."""
    if size:
        return video.resize_area(video.crop_center(frame, *size), *size)
    high, wide = (side // part * part for side, part in zip(frame.shape[:2], cell, strict=True))
    if not high or not wide:
        raise video.MediaError("too_small", f"{name!a} has {frame.shape[1]}x{frame.shape[0]} pixels, a cell of the "
                                            f"autoencoder is {cell[1]}x{cell[0]}; enlarge it with --height and --width")
    return video.window(frame, high, wide)


class Passage:
    """One film's way there and back: a stream in either direction for each tile."""

    def __init__(self, vae: nnx.Module, options: Options):
        self.vae, self.options, self.tiled = vae, options, False
        self.coders, self.decoders, self.worst = [], [], [0.0, 0.0]

    def through(self, frames: Iterator[UInt8[np.ndarray, "h w 3"]]
                ) -> Iterator[tuple[UInt8[np.ndarray, "f h w 3"], UInt8[np.ndarray, "f h w 3"]]]:
        """(part of the film, its reconstruction) in turn. The last frame is repeated to whole latent frames, and the
        repeats are dropped again."""
        time, *cell = self.vae.config.ratio
        tile, overlap = self.options.tile, self.options.overlap
        smaller, larger = (tuple(Fraction(1, side) for side in cell), tuple(cell))
        need = 1 + time * (self.options.chunk - 1)
        while part := list(itertools.islice(frames, need)):
            x = np.stack(part)
            self.tiled |= max(x.shape[1:3]) > tile
            first = not self.coders
            short = -(len(x) - first) % time
            filled = np.concatenate([x, np.repeat(x[-1:], short, 0)])[None]
            z = self.pass_tiles(0, filled, streaming.encoded, (tile, tile), (overlap, overlap), smaller)
            inside, shared = (tuple(size // side for side in cell) for size in (tile, overlap))
            y = self.pass_tiles(1, z, streaming.decoded, inside, shared, larger)
            yield x, video.to_uint8(y[0, : len(x)])
            need = time * self.options.chunk

    def pass_tiles(self, way: int, x: np.ndarray, transform: Callable, tile: tuple[int, int], overlap: tuple[int, int],
                   scale: tuple[Fraction | int, Fraction | int]) -> Float[np.ndarray, "b f h w c"]:
        """The next chunk of all tiles, each through its own stream, blended; one tile that is all is not touched."""
        steps = self.decoders if way else self.coders
        turn = itertools.count()

        def apply(part):
            k = next(turn)
            if k == len(steps):
                steps.append(stepper(transform, self.vae))
            return steps[k](part)

        if all(size <= side for size, side in zip(x.shape[2:4], tile, strict=True)):
            return apply(x)
        answer, seam = tiling.tiled(apply, x, tile, overlap, scale, "the latents" if way else "the film")
        self.worst[way] = max(self.worst[way], seam)
        return answer

    def seams(self) -> dict[str, dict[str, float]]:
        """How much tiles disagreed where they overlapped, at worst; nothing if there was one tile."""
        if not self.tiled:
            return {}
        return {"seam": {"latents": self.worst[0], "grey_levels": self.worst[1] * 127.5, "tiles": len(self.coders)}}


def stepper(transform: Callable, vae: nnx.Module) -> Callable[[np.ndarray], np.ndarray]:
    """A streaming transform as a function of one chunk after the other."""
    waiting = collections.deque()

    def fed():
        while True:
            yield waiting.popleft()

    answers = transform(vae, fed())

    def step(part):
        waiting.append(part)
        return next(answers)

    return step


class Tally:
    """What is kept of a film that went by: error sums, and a few frames for the sheet."""

    def __init__(self, expected: int):
        self.wanted = {round(k * max(0, expected - 1) / (SHOWN - 1)) for k in range(SHOWN)}
        self.frames, self.error, self.alike, self.size = 0, 0.0, 0.0, []
        self.shown = []

    def add(self, x: UInt8[np.ndarray, "f h w 3"], y: UInt8[np.ndarray, "f h w 3"]) -> None:
        """A part and its reconstruction."""
        self.shown += [(x[k], y[k]) for k in range(len(x)) if self.frames + k in self.wanted]
        self.error += float(((x.astype(np.float64) - y) ** 2).mean((1, 2, 3)).sum())
        self.alike += len(x) * reconstruction.ssim(x, y)
        self.frames, self.size = self.frames + len(x), list(x.shape[1:3])

    def figures(self) -> dict[str, float]:
        """PSNR of the mean squared error over all pixels, and mean SSIM."""
        return {"psnr": reconstruction.psnr(self.error / self.frames), "ssim": self.alike / self.frames}

    def sheet(self) -> UInt8[np.ndarray, "h w 3"]:
        """The film, its reconstruction, their difference."""
        clips, back = (np.stack(side)[None] for side in zip(*self.shown, strict=True))
        return appraise.sheet(clips, back)
