"""Latents to spacetime tokens and back: a clip is a list of patches, each with a position (frame, row, column)."""
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float

from sora_jax.types import ConfigError

AXES = ("frames", "height", "width")


def grid(shape: tuple[int, int, int], patch: tuple[int, int, int]) -> tuple[int, int, int]:
    """Tokens along (frame, row, column) of latents `shape` = (fl, hl, wl). ConfigError if a patch does not fit."""
    for name, size, step in zip(AXES, shape, patch, strict=True):
        if size % step:
            raise ConfigError(
                f"model.patch={tuple(patch)} does not divide latents of {tuple(shape)} (frames, height, width): "
                f"{name} {size} = {size // step} * {step} + {size % step}; change the patch or the clip size")
    return tuple(size // step for size, step in zip(shape, patch, strict=True))


def patchify(x: Float[Array | np.ndarray, "b fl hl wl z"],
             patch: tuple[int, int, int]) -> Float[Array | np.ndarray, "b n p"]:
    """Tokens in the order (frame, row, column); a token holds its patch in the order (frame, row, column, channel)."""
    grid(x.shape[1:4], patch)
    pf, ph, pw = patch
    return rearrange(x, "b (f pf) (h ph) (w pw) z -> b (f h w) (pf ph pw z)", pf=pf, ph=ph, pw=pw)


def unpatchify(tokens: Float[Array, "b n p"], patch: tuple[int, int, int],
               grid: tuple[int, int, int]) -> Float[Array, "b fl hl wl z"]:
    """The inverse of `patchify`, for tokens laid out on `grid` (frames, rows, columns)."""
    (f, h, w), (pf, ph, pw) = grid, patch
    return rearrange(tokens, "b (f h w) (pf ph pw z) -> b (f pf) (h ph) (w pw) z", f=f, h=h, w=w, pf=pf, ph=ph, pw=pw)


def positions(grid: tuple[int, int, int]) -> Float[Array, "n 3"]:
    """(frame, row, column) of every token of `grid`, in the order of `patchify`."""
    axes = jnp.meshgrid(*(jnp.arange(size, dtype=jnp.float32) for size in grid), indexing="ij")
    return rearrange(jnp.stack(axes, axis=-1), "f h w i -> (f h w) i")


def places(grid: tuple[int, int, int]) -> Float[np.ndarray, "n 3"]:
    """`positions` as numbers that are known while a program is traced."""
    axes = np.meshgrid(*(np.arange(size, dtype=np.float32) for size in grid), indexing="ij")
    return rearrange(np.stack(axes, axis=-1), "f h w i -> (f h w) i")
