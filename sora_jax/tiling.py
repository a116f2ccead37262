"""A frame too large for the device, tile by tile: neighbours overlap and are blended by a ramp.

A network that sees only so far gives the same answer in two overlapping tiles but near their borders; one that attends
to the whole frame does not. `seam` says how much tiles disagreed where they overlapped.
"""
import itertools
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Shaped

from sora_jax import coder
from sora_jax.types import InputError


class Tiled(NamedTuple):
    """A blended answer, and the largest absolute difference between a tile and those before it, before blending."""

    x: Float[np.ndarray, "b f h w c"]
    seam: float


def tiled(apply: Callable, x: Shaped[Array | np.ndarray, "b f h w c"], tile: tuple[int, int],
          overlap: int | tuple[int, int], scale: Fraction | int | tuple[Fraction | int, Fraction | int],
          what: str = "the clip") -> Tiled:
    """`apply` to tiles of `tile` rows and columns that overlap by `overlap` or more cells, laid on a host array.

    `apply` makes of `h` rows `h · scale`: the compression for decoding, its inverse as a Fraction for encoding; a pair,
    as of `overlap`, where those of rows and columns differ. All tiles have one shape, so one program does. Raises
    InputError if the tiles cannot be cut, or if `x`, which is `what`, is not finite.
    """
    coder.finite(x, what)
    scales = scale if isinstance(scale, tuple) else (scale, scale)
    overlaps = overlap if isinstance(overlap, tuple) else (overlap, overlap)
    sides = [min(size, side) for size, side in zip(x.shape[2:4], tile, strict=True)]
    for size, side, overlap, by in zip(x.shape[2:4], sides, overlaps, scales, strict=True):
        odd = any(Fraction(number) * by % 1 for number in (size, side, overlap))
        if odd or overlap < 0 or overlap >= side < size:
            raise InputError(f"tiles of {side} cells with overlap {overlap} in {size} cells cannot be cut: the overlap "
                             f"is smaller than a tile, and all are multiples of {Fraction(1, by)}")
    total = weight = np.zeros(0)
    seam = 0.0
    corners = (starts(*places) for places in zip(x.shape[2:4], sides, overlaps, strict=True))
    for row, column in itertools.product(*corners):
        part = np.asarray(apply(x[:, :, row : row + sides[0], column : column + sides[1]]))
        if not total.size:
            height, width = (int(size * by) for size, by in zip(x.shape[2:4], scales, strict=True))
            total = np.zeros((*part.shape[:2], height, width, part.shape[-1]), np.float32)
            weight = np.zeros((height, width, 1), np.float32)
        top, left = int(row * scales[0]), int(column * scales[1])
        here = (..., slice(top, top + part.shape[2]), slice(left, left + part.shape[3]), slice(None))
        seen = weight[here][..., 0] > 0
        if seen.any():
            known = total[here][:, :, seen] / weight[here][seen]
            seam = max(seam, float(np.abs(part[:, :, seen] - known).max()))
        ramp = ramps(part.shape[2:4], [int(overlap * by) for overlap, by in zip(overlaps, scales, strict=True)])
        total[here] += part * ramp
        weight[here] += ramp
    return Tiled(total / weight, seam)


def starts(size: int, side: int, overlap: int) -> list[int]:
    """Where tiles begin; the last one ends with the frame."""
    return [*range(0, size - side, side - overlap), size - side]


def ramps(shape: tuple[int, int], overlaps: Sequence[int]) -> Float[np.ndarray, "h w 1"]:
    """Weights that rise over so many cells from each border, never to be zero."""
    rows, columns = (np.minimum(1.0, np.minimum(np.arange(1, n + 1), np.arange(n, 0, -1)) / (overlap + 1))
                     for n, overlap in zip(shape, overlaps, strict=True))
    return (rows[:, None] * columns)[..., None].astype(np.float32)
