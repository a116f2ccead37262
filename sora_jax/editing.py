"""A clip edited: films or pictures laid where a task wants them, the rest drawn, and both shown.

Enters: an open pipeline, a task of `tasks`, and files or a clip. Leaves: the clip, the largest difference of a known
latent to what was given, and a sheet of what was given, drawn and, where it is known, true.
"""
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from einops import repeat
from jaxtyping import Array, Bool, Float, UInt8

from sora_jax import tasks, video
from sora_jax.pipeline import Pipeline, decode, encode
from sora_jax.types import InputError

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
COLUMNS, ENLARGED = 9, 128  # frames on a sheet, and the least pixels of their larger side
Film = UInt8[np.ndarray, "_f h w 3"]


class Given(NamedTuple):
    """A clip whose known pixels are given; `whole` says whether the others are true."""

    clip: Film
    known: Bool[np.ndarray, "f h w"]
    whole: bool


class Edit(NamedTuple):
    """What was drawn, the largest difference of a known latent to the given one (None where nothing is known), and the
    sheet."""

    clip: Film
    difference: float | None
    sheet: UInt8[np.ndarray, "h w 3"]


def read(path: Path, count: int, height: int, width: int, fps: float, start: float = 0.0) -> Film:
    """At most `count` frames of a film from `start` seconds on, at `fps`, cropped and resized; a picture is a film that
    stands still. Raises InputError."""
    if path.suffix.lower() in PICTURES:
        return np.repeat(video.read_image(path, height, width)[None], count, axis=0)
    there = int((video.probe(path).seconds - start) * fps + 1e-3)
    if there < 1:
        raise InputError(f"{path} ends before --start={start:g} seconds")
    return video.read(path, count=min(count, there), fps=fps, start=start,
                      each=lambda frame: video.resize_area(video.crop_center(frame, height, width), height, width))[0]


def lay(task: str, films: tuple[Film, ...], known: Bool[np.ndarray, "f h w"]) -> Given:
    """The films where the task wants them: one as long as the clip is the clip; a shorter one is its beginning (or, to
    be extended backwards, its end); a second one is its end. Raises InputError for films that are too short."""
    size, given = known.shape, known.any((1, 2))
    first = int(given.argmin()) if not given.all() else size[0]
    last = int(given[::-1].argmin()) if not given.all() else 0
    if len(films) == 2 and not (first and last):
        raise InputError(f"--then is for the tasks ends and join; --task={task} takes one film")
    if len(films) == 1 and len(films[0]) >= size[0]:
        return Given(films[0][:size[0]], known, True)
    if len(films) == 1 and first and last:
        raise InputError(f"--task={task} needs all {size[0]} frames of the clip, the film has {len(films[0])}; give a "
                         "longer one, a smaller --start, or the end with --then")
    clip = np.zeros((*size, 3), np.uint8)
    for film, need, place in ((films[0], first, slice(0, first)), (films[-1], last, slice(size[0] - last, size[0]))):
        if len(film) < need:
            raise InputError(f"--task={task} is given {need} frames, the film has {len(film)}; give a longer one, a "
                             "smaller --start or fewer with --given")
        clip[place] = film[:need]
    return Given(clip, known, False)


def edit(pipe: Pipeline, prompt: str, given: Given, **options: Any) -> Edit:
    """Draw what is not given. It is hidden before the clip is encoded, so that the known latents do not know of it.
    `options` are those of `Pipeline.latents`. Raises ConfigError, InputError."""
    size, known = given.clip.shape[:3], given.known[None]
    shown, cells, task = tasks.hidden(given.clip[None], known), tasks.cells(known, pipe.vae.config.ratio), {}
    if cells.any():
        task = {"known": cells, "x_known": encode(pipe.vae, shown)}
    z = pipe.latents([prompt], size=size, **task, **options)
    drawn = decode(pipe.vae, z)
    films, labels = [tasks.framed(*grown(each, known))[0] for each in (shown, drawn)], ["given", "drawn"]
    if given.whole:
        films, labels = [*films, grown(given.clip[None], known)[0][0]], [*labels, "truth"]
    sheet = video.contact_sheet(films, labels=labels, columns=COLUMNS, scale=1)
    return Edit(drawn[0], apart(pipe, z, **task) if task else None, sheet)


def apart(pipe: Pipeline, z: Float[Array, "b fl hl wl z"], known: Bool[np.ndarray, "b fl hl wl"],
          x_known: Float[Array, "b fl hl wl z"]) -> float:
    """The largest difference of a latent of a known token to what was given."""
    tokens = np.abs(np.asarray(pipe.model.tokenise(z - x_known)[0]))
    return float(tokens[np.asarray(pipe.known_tokens(known, z.shape))].max())


def grown(clips: UInt8[np.ndarray, "b f h w 3"], known: Bool[np.ndarray, "b f h w"]
          ) -> tuple[UInt8[np.ndarray, "b f h2 w2 3"], Bool[np.ndarray, "b f h2 w2"]]:
    """Small clips enlarged, so that a line around what is given covers little of it."""
    scale = max(1, ENLARGED // max(known.shape[2:]))
    return video.enlarge(clips, scale), repeat(known, "b f h w -> b f (h y) (w x)", y=scale, x=scale)
