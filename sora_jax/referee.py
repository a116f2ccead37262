"""Editing scored on uniform motion, where the truth is known: what is given is kept, and what is drawn moves right.

Enters: an open pipeline. Leaves, per task of `tasks`: the velocity error (Kang et al. 2024, arXiv 2411.02385) of the
frames that were not given whole, that of standing still and of the autoencoder, PSNR, and whether latents were kept.
"""
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from einops import repeat
from jaxtyping import Array, Bool, Float, UInt8

from sora_jax import judge, tasks, video
from sora_jax.evals import physics, reconstruction
from sora_jax.pipeline import Pipeline, decode, encode
from sora_jax.types import Truth

SIDE = 0.5  # of the box, in frame heights
SHOWN = 2  # clips of each task on a sheet


class Held(NamedTuple):
    """Held-out clips, their latents, what the autoencoder makes of them, and what they show."""

    videos: UInt8[np.ndarray, "b f h w c"]
    latents: Float[Array, "b fl hl wl z"]
    back: UInt8[np.ndarray, "b f h w c"]
    captions: list[str]
    truths: list[Truth]


def evaluate(pipe: Pipeline, names: Sequence[str], clips: int, each: Callable[[dict], None] = lambda found: None,
             **options: Any) -> tuple[dict[str, dict], np.ndarray]:
    """The figures of each task, and a sheet: given, drawn and true rows of a few clips. `each` is shown what is found
    after every task. Raises InputError for a task that there is not."""
    held, found, shown, labels = draw(pipe, clips), {}, [], []
    for turn, name in enumerate(names, 1):
        print(f"{turn}/{len(names)} {name}", file=sys.stderr, flush=True)
        known = masks(pipe, name, held)
        found[name], drawn = one(pipe, held, known, **options)
        part = slice(SHOWN)
        given = tasks.framed(tasks.hidden(held.videos[part], known[part]), known[part])
        shown += tasks.rows(given, tasks.framed(drawn[part], known[part]), held.videos[part])
        each(found)
        labels += [f"{name}, {kind}: {text}" for text in held.captions[part] for kind in ("given", "drawn", "truth")]
    return found, sheet(shown, labels)


def draw(pipe: Pipeline, clips: int) -> Held:
    """The clips that every task is asked of."""
    videos, captions, truths = judge.moving(pipe, clips, "val")
    latents = encoded(pipe, videos)
    return Held(videos, latents, decode(pipe.vae, latents), captions, truths)


def masks(pipe: Pipeline, task: str, held: Held) -> Bool[np.ndarray, "b f h w"]:
    """The pixels that a task gives of each clip: of inpainting all but a box that moves with the object."""
    size = held.videos.shape[1:4]
    boxes = [around(truth, size[1]) if task == "inpaint" else None for truth in held.truths]
    return np.stack([tasks.given(task, size, pipe.vae.config.ratio, judge.GIVEN, box) for box in boxes])


def around(truth: Truth, height: int) -> tasks.Box:
    """A box with the first object at its centre in the first and in the last frame."""
    start, end = (height * truth["position"][frame, 0] for frame in (0, -1))
    side = SIDE * height
    return tasks.Box(start[1] - side / 2, start[0] - side / 2, side, side, end[1] - start[1], end[0] - start[0])


def one(pipe: Pipeline, held: Held, known: Bool[np.ndarray, "b f h w"], **options: Any) -> tuple[dict, np.ndarray]:
    """The figures of one task, and what was drawn. "told" is drawn beside latents of the whole clips, where what is
    given has seen what is not; it is left out where these are the same latents."""
    size, given = held.videos.shape[1:4], tasks.hidden(held.videos, known)
    cells, inside = tasks.cells(known, pipe.vae.config.ratio), np.zeros_like(known)
    found, drawn, asked = {"given": float(cells.mean())}, {}, {"drawn": None}
    if cells.any():
        asked["drawn"] = encoded(pipe, given)
        if not np.array_equal(np.asarray(held.latents)[cells], np.asarray(asked["drawn"])[cells]):
            asked["told"] = held.latents
        kept = pipe.known_tokens(cells, held.latents.shape)
        inside = pixels(pipe, kept, held.latents.shape)
    for name, x_known in asked.items():
        task = {} if x_known is None else {"known": cells, "x_known": x_known}
        z = pipe.latents(held.captions, size=size, **task, **options)
        drawn[name] = decode(pipe.vae, z)
        if x_known is not None:
            apart = np.abs(np.asarray(pipe.model.tokenise(z - x_known)[0]))
            found[f"{name}_latent_difference"] = float(apart[np.asarray(kept)].max())
    from_, to = scored(known)
    found["scored_frames"] = [from_, to]
    films = {"parser_floor": held.videos, "vae_floor": held.back, "still": given, **drawn}
    truths, fps = [judge.later(truth, from_, to) for truth in held.truths], pipe.config.data.fps
    found["velocity"] = {name: finite(physics.velocity(film[:, from_:to], truths, fps)) for name, film in films.items()}
    for part, where in (("known", inside), ("unknown", ~inside)):
        found[f"psnr_{part}"] = {name: psnr(film, held.videos, where) for name, film in films.items()
                                 if name != "parser_floor"} if where.any() else None
    return found, drawn["drawn"]


def encoded(pipe: Pipeline, clips: UInt8[np.ndarray, "b f h w c"]) -> Float[Array, "b fl hl wl z"]:
    """Latents, a few clips at a time."""
    return jnp.concatenate([encode(pipe.vae, clips[i:i + 16]) for i in range(0, len(clips), 16)])


def pixels(pipe: Pipeline, kept: Bool[Array, "b n"], shape: tuple[int, int, int, int, int]
           ) -> Bool[np.ndarray, "b f h w"]:
    """The pixels of these tokens of latents of `shape`."""
    tokens = repeat(kept.astype(jnp.float32), "b n -> b n p", p=pipe.model.config.elements)
    cells = np.asarray(pipe.model.untokenise(tokens, shape[1:4]))[..., 0] > 0.5
    time, high, wide = pipe.vae.config.ratio
    large = repeat(cells, "b f h w -> b f (h y) (w x)", y=high, x=wide)
    return np.concatenate([large[:, :1], np.repeat(large[:, 1:], time, axis=1)], axis=1)


def finite(figures: dict[str, float]) -> dict[str, float | None]:
    """The same with None for what is not a number: no object was found."""
    return {name: value if np.isfinite(value) else None for name, value in figures.items()}


def scored(known: Bool[np.ndarray, "b f h w"]) -> tuple[int, int]:
    """First and past-last frame of those that are not given whole, with a given one at each side for the motion."""
    frames = np.flatnonzero(~known.all((0, 2, 3)))
    return max(0, int(frames[0]) - 1), min(known.shape[1], int(frames[-1]) + 2)


def psnr(film: UInt8[np.ndarray, "b f h w c"], truth: UInt8[np.ndarray, "b f h w c"],
         where: Bool[np.ndarray, "b f h w"]) -> float:
    """Decibels of the mean squared error over these pixels."""
    return reconstruction.psnr(float(((film.astype(np.float32) - truth) ** 2)[where].mean()))


def sheet(clips: Sequence[np.ndarray], labels: Sequence[str]) -> UInt8[np.ndarray, "h w 3"]:
    """One picture of these clips, as large as they are."""
    return video.contact_sheet(clips, labels=labels, columns=9, scale=1)
