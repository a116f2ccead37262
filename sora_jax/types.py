"""The vocabulary every other file shares: axis alphabet, `Clip`, `Batch`, `Packed`, `Scalars`.

Axes: `b` clips · `f h w c` pixels · `fl hl wl z` latents · `n` tokens · `p` patch elements · `d` width ·
`a e` heads and head width · `l m` caption positions and caption width · `k` noise levels · `""` a scalar.
"""
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped, UInt8

Scalars = dict[str, Float[Array, ""]]
Truth = dict[str, Any]


class Clip(NamedTuple):
    """One captioned video as it leaves a dataset. Pixels stay uint8 until inside `jit`."""

    video: UInt8[np.ndarray, "f h w c"]
    caption: str
    fps: float
    truth: Truth | None = None


class Batch(NamedTuple):
    """What a training step sees: pixels (uint8) or latents (float), and caption bytes `b l`, or states `b l d` of
    captions, with their mask."""

    x: Shaped[Array, "b f h w c"]
    text: Shaped[Array, "b l *d"]
    mask: Bool[Array, "b l"]


class Packed(NamedTuple):
    """Clips of any sizes side by side in rows of one length: tokens, their positions, and which of the row's clips each
    is of, -1 where there is none; and a caption for each clip."""

    tokens: Float[Array, "b n p"]
    positions: Float[Array, "b n 3"]
    segments: Int[Array, "b n"]
    text: Shaped[Array, "b s l *d"]
    mask: Bool[Array, "b s l"]


class ConfigError(ValueError):
    """A config that cannot run. The message names the field and the cure, on one line."""


class InputError(ValueError):
    """A file, folder or request that cannot be used. The message names it and the cure, on one line."""
