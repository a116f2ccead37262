"""A task is a mask: which pixels of a clip are given, and which latent cells that makes known.

Enters: a task by name, a clip's size and the autoencoder's reduction. Leaves: masks, True where given. A latent frame
past the first covers `ratio[0]` frames of film, a cell `ratio[1]` by `ratio[2]` pixels; it is known if all of them are.
"""
from typing import NamedTuple

import numpy as np
from einops import rearrange, reduce
from jaxtyping import Bool, UInt8

from sora_jax.types import InputError

TASKS = {
    "text": "nothing is given", "image": "the first frame", "ends": "the first frame and the last latent frame",
    "extend": "the beginning", "extend_back": "the end", "join": "the beginning and the end",
    "inpaint": "everything outside of a box",
}
ENDS = {"text": (0, 0), "image": (1, 0), "ends": (1, 1), "extend": (-1, 0), "extend_back": (0, -1), "join": (-1, -1)}
"""Latent frames that are given at the beginning and at the end; -1: as many as is asked for."""
GREY = 128  # what stands where nothing at all is given
Size = tuple[int, int, int]
Ratio = tuple[int, int, int]


class Box(NamedTuple):
    """The hole of inpainting, in pixels: its first row and column, height and width, and the rows and columns that it
    has moved by when the last frame comes."""

    top: float
    left: float
    height: float
    width: float
    down: float = 0.0
    right: float = 0.0


def given(task: str, size: Size, ratio: Ratio, latents: int = 2, box: Box | None = None) -> Bool[np.ndarray, "f h w"]:
    """The pixels that `task` gives of a clip of `size` (frames, height, width). `latents` is how many latent frames
    extension and joining are given at each given end. Raises InputError for what leaves nothing to draw."""
    if task not in TASKS:
        raise InputError(f"--task={task} is not one of {', '.join(TASKS)}")
    if (box is not None) != (task == "inpaint"):
        raise InputError(f"--task={task} {'needs a --box' if box is None else 'takes no --box'}; inpainting has one")
    if box is not None:
        return ~hole(size, box)
    frames = 1 + (size[0] - 1) // ratio[0]
    first, last = (latents if part < 0 else part for part in ENDS[task])
    if latents < 1 or first + last >= frames:
        raise InputError(f"--task={task} is given {first + last} latent frames of a clip of {frames}, "
                         f"{size[0]} frames of film; ask for fewer with --given, or for a longer clip with --frames")
    index = np.arange(size[0])
    known = (index < (first and 1 + ratio[0] * (first - 1))) | (index >= size[0] - ratio[0] * last)
    return np.broadcast_to(known[:, None, None], size)


def hole(size: Size, box: Box) -> Bool[np.ndarray, "f h w"]:
    """The pixels inside a box, that may move: those it covers at least in part. Raises InputError for a box that is
    empty or nowhere in the picture."""
    frames, *sides = size
    inside = []
    for start, side, by, whole in zip(box[:2], box[2:4], box[4:], sides, strict=True):
        low = (start + by * np.arange(frames) / max(1, frames - 1))[:, None]
        pixel = np.arange(whole)
        inside.append((pixel + 1 > low) & (pixel < low + side))
    found = inside[0][:, :, None] & inside[1][:, None, :]
    if min(box[2:4]) <= 0 or not found.any() or found.all():
        raise InputError(f"--box={','.join(f'{part:g}' for part in box)} must be top,left,height,width in pixels, with "
                         f"something of a {sides[0]}x{sides[1]} picture inside and something outside")
    return found


def cells(pixels: Bool[np.ndarray, "*b f h w"], ratio: Ratio) -> Bool[np.ndarray, "*b fl hl wl"]:
    """The latent cells whose pixels are all given: a cell that a hole touches is unknown."""
    time, high, wide = ratio
    first, rest = pixels[..., :1, :, :], pixels[..., 1:, :, :]
    parts = [reduce(part, "... (f t) (h y) (w x) -> ... f h w", "min", t=step, y=high, x=wide)
             for part, step in ((first, 1), (rest, time)) if part.shape[-3]]
    return np.concatenate(parts, axis=-3)


def hidden(clips: UInt8[np.ndarray, "b f h w c"], known: Bool[np.ndarray, "b f h w"]) -> UInt8[np.ndarray, "b f h w c"]:
    """The clips without what is not given, so that no latent knows of it: an encoder's cells see their neighbours.

    Where a frame has a hole, the mean of what is given around it; where nothing of it is given, the nearest frame that
    has something; grey where there is none."""
    shown = np.full_like(clips, GREY)
    for clip, mask, out in zip(clips, known, shown, strict=True):
        some = np.flatnonzero(mask.any((1, 2)))
        for frame in range(len(clip)) if len(some) else ():
            near = some[np.abs(some - frame).argmin()]
            mean = np.rint(clip[near][mask[near]].mean(0)).astype(np.uint8)
            out[frame] = np.where(mask[near][:, :, None], clip[near], mean)
    return shown


def framed(clips: UInt8[np.ndarray, "b f h w 3"], known: Bool[np.ndarray, "b f h w"],
           colour: tuple[int, int, int] = (255, 140, 0)) -> UInt8[np.ndarray, "b f h w 3"]:
    """The clips with a line around what is given, along its inside."""
    padded = np.pad(known, ((0, 0), (0, 0), (1, 1), (1, 1)))
    high, wide = known.shape[2:]
    inner = np.ones_like(known)
    for row in range(3):
        for column in range(3):
            inner &= padded[:, :, row:row + high, column:column + wide]
    return np.where((known & ~inner)[..., None], np.uint8(colour), clips)


def rows(*groups: UInt8[np.ndarray, "b f h w 3"]) -> list[UInt8[np.ndarray, "f h w 3"]]:
    """The clips of several groups in turn: the first of each, then the second of each."""
    return list(rearrange(np.stack(groups), "g b f h w c -> (b g) f h w c"))
