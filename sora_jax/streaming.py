"""A clip through an autoencoder chunk by chunk: the answer of the whole clip, in device memory that does not grow.

On the device there is one chunk and one cache; the clip and the answer are arrays on the host. At most three programs
are compiled: for the chunk that begins a clip, for those after it, and for a shorter last one.
"""
from collections.abc import Iterable, Iterator

import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Shaped

from sora_jax import coder
from sora_jax.types import InputError


def encoded(vae: nnx.Module, parts: Iterable[Shaped[Array | np.ndarray, "_b _f _h _w 3"]]) -> Iterator[np.ndarray]:
    """Normalised latents of each part of a clip in turn; pixels are uint8, or floats in [-1, 1].

    The first part has 1 + time·k frames and the others time·k. Raises InputError for another number, and for what
    `coder.check` refuses.
    """
    return _passed(coder.encode_chunk, vae, _checked(vae, parts))


def decoded(vae: nnx.Module, parts: Iterable[Float[Array | np.ndarray, "_b _fl _hl _wl _z"]]) -> Iterator[np.ndarray]:
    """Float pixels of each part of a clip's normalised latents in turn; a part has any number of frames.
    Raises InputError for latents that are not finite or of other channels."""
    return _passed(coder.decode_chunk, vae, _sound(vae, parts))


def _sound(vae: nnx.Module, parts: Iterable) -> Iterator:
    for part in parts:
        coder.check_latents(vae, part)
        yield part


def encode(vae: nnx.Module, x: Shaped[Array | np.ndarray, "b f h w 3"],
           chunk: int = 1) -> Float[np.ndarray, "b fl hl wl z"]:
    """`vae.encode` of a clip of 1 + time·k frames, `chunk` latent frames at a time. Raises InputError before anything
    is encoded."""
    time = vae.config.ratio[0]
    _counted(chunk)
    coder.check(vae, x)
    ends = range(1 + time * (chunk - 1), x.shape[1] + time * chunk, time * chunk)
    return _filled(_passed(coder.encode_chunk, vae, _parts(x, ends)), 1 + (x.shape[1] - 1) // time)


def decode(vae: nnx.Module, z: Float[Array | np.ndarray, "b fl hl wl z"],
           chunk: int = 1) -> Float[np.ndarray, "b f h w 3"]:
    """`vae.decode` of latents, `chunk` latent frames at a time. Raises InputError before anything is decoded."""
    _counted(chunk)
    coder.check_latents(vae, z)
    ends = range(chunk, z.shape[1] + chunk, chunk)
    return _filled(_passed(coder.decode_chunk, vae, _parts(z, ends)), 1 + (z.shape[1] - 1) * vae.config.ratio[0])


def _counted(chunk: int) -> None:
    if chunk < 1:
        raise InputError(f"chunks of {chunk} latent frames; give 1 or more")


def _passed(step, vae, parts):
    past = None
    for part in parts:
        answer, past = step(vae, part, past)
        yield np.asarray(answer)


def _parts(x, ends):
    start = 0
    for end in ends:
        yield x[:, start:end]
        start = end


def _checked(vae, parts):
    for k, part in enumerate(parts):
        coder.check(vae, part, later=k > 0, what=f"chunk {k} of the clip")
        yield part


def _filled(answers, frames: int) -> np.ndarray:
    whole, start = np.empty(0), 0
    for answer in answers:
        if not start:
            whole = np.empty((answer.shape[0], frames, *answer.shape[2:]), answer.dtype)
        whole[:, start : start + answer.shape[1]] = answer
        start += answer.shape[1]
    return whole
