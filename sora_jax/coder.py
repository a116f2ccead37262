"""An autoencoder's compiled programs, one for each thing that is done with it, and what may go into them.

Clips are uint8, or floats in [-1, 1]; they are looked at on the host before anything compiles, so that what cannot be
encoded is one line that names its place. `program(vae, *arrays)` compiles once for a structure and shapes.
"""
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Shaped

from sora_jax import video
from sora_jax.types import InputError


def program(function: Callable) -> Callable:
    """`function(vae, *arrays)`, compiled."""
    step = jax.jit(lambda graph, params, *given: function(nnx.merge(graph, params), *given), static_argnums=0)
    return lambda vae, *given: step(*nnx.split(vae), *given)


def pixels(x: Shaped[Array, "*s"]) -> Shaped[Array, "*s"]:
    """Floats, whatever the clip is in."""
    return video.to_float(x) if x.dtype == np.uint8 else x


encode = program(lambda vae, x: vae.encode(pixels(x)))
moments = program(lambda vae, x: vae.moments(pixels(x)))
decode = program(lambda vae, z: video.to_uint8(vae.decode(z)))
encode_chunk = program(lambda vae, x, past: vae.encode_chunk(pixels(x), past))
decode_chunk = program(lambda vae, z, past: vae.decode_chunk(z, past))


def check(vae: nnx.Module, x: Shaped[Array | np.ndarray, "..."], later: bool = False, what: str = "the clip") -> None:
    """InputError unless these are clips `b f h w 3` that the autoencoder can take whole: 1 + time·k frames (time·k of
    `later` ones, that go on from a chunk before), sides that divide, and no NaN."""
    if x.ndim != 5 or x.shape[-1] != 3 or not len(x):
        raise InputError(f"{what} is of shape {tuple(x.shape)}; the autoencoder takes clips, frames, rows, columns and "
                         "3 colours")
    if x.dtype != np.uint8 and not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(f"{what} is of {x.dtype}; give uint8, or floats in [-1, 1]")
    time, *sides = vae.config.ratio
    frames = x.shape[1]
    if frames < 1 or (frames - (not later)) % time:
        near = sizes(frames, time, 0 if later else 1, time if later else 1)
        raise InputError(f"{what} has {frames} frames; the autoencoder needs {'' if later else '1 + '}{time}k: {near}")
    for name, size, side in zip(("rows", "columns"), x.shape[2:4], sides, strict=True):
        if size % side or not size:
            raise InputError(f"{what} has {size} {name}; the autoencoder needs a multiple of {side}: "
                             f"{sizes(size, side, 0, side)}")
    finite(x, what)


def check_latents(vae: nnx.Module, z: Shaped[Array | np.ndarray, "..."]) -> None:
    """InputError unless these are finite latents `b fl hl wl z` with the autoencoder's channels."""
    if z.ndim != 5 or not z.size or z.shape[-1] != vae.config.channels:
        raise InputError(f"latents of shape {tuple(z.shape)}; the autoencoder decodes clips, frames, rows, columns and "
                         f"{vae.config.channels} channels")
    finite(z, "latents")


def sizes(size: int, step: int, first: int, least: int) -> str:
    """The nearest sizes `first` + `step`·k that are at least `least`, below and above, for people."""
    below = first + (size - first) // step * step
    fit = [near for near in (below, below + step) if near >= least] or [least]
    return "use " + " or ".join(map(str, fit))


def finite(x: Shaped[Array | np.ndarray, "b f h w c"], what: str) -> None:
    """InputError naming clip, frame, row and column of the first number that is NaN or infinite. Looks at one frame of
    one clip at a time, so it needs no memory."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return
    for clip in range(x.shape[0]):
        for frame in range(x.shape[1]):
            if not (good := np.isfinite(part := np.asarray(x[clip, frame]))).all():
                row, column, channel = (int(place) for place in np.argwhere(~good)[0])
                raise InputError(f"{what} holds {part[row, column, channel]} in clip {clip}, frame {frame}, row {row}, "
                                 f"column {column}")
