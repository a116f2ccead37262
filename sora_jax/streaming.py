"""A clip through an autoencoder chunk by chunk: the answer of the whole clip, in device memory that does not grow.

On the device there is one chunk and one cache; the clip and the answer are arrays on the host. At most three programs
are compiled: for the chunk that begins a clip, for those after it, and for a shorter last one.
"""
from collections.abc import Iterable, Iterator

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Shaped

from sora_jax import video
from sora_jax.types import InputError


def _encode(graph, params, x, past):
    x = video.to_float(x) if x.dtype == np.uint8 else x
    return nnx.merge(graph, params).encode_chunk(x, past)


def _decode(graph, params, z, past):
    return nnx.merge(graph, params).decode_chunk(z, past)


encode_step = jax.jit(_encode, static_argnums=0)
decode_step = jax.jit(_decode, static_argnums=0)


def encoded(vae: nnx.Module, parts: Iterable[Shaped[Array | np.ndarray, "_b _f _h _w 3"]]) -> Iterator[np.ndarray]:
    """Normalised latents of each part of a clip in turn; pixels are uint8, or floats in [-1, 1].

    The first part has 1 + time·k frames and the others time·k. Raises InputError for another number.
    """
    return _passed(encode_step, vae, _checked(parts, vae.config.ratio[0]))


def decoded(vae: nnx.Module, parts: Iterable[Float[Array | np.ndarray, "_b _fl _hl _wl _z"]]) -> Iterator[np.ndarray]:
    """Float pixels of each part of a clip's normalised latents in turn; a part has any number of frames."""
    return _passed(decode_step, vae, parts)


def encode(vae: nnx.Module, x: Shaped[Array | np.ndarray, "b f h w 3"],
           chunk: int = 1) -> Float[np.ndarray, "b fl hl wl z"]:
    """`vae.encode` of a clip of 1 + time·k frames, `chunk` latent frames at a time. Raises InputError before anything
    is encoded."""
    time = vae.config.ratio[0]
    _counted(chunk, x.shape[1])
    if (x.shape[1] - 1) % time:
        raise InputError(f"the clip has {x.shape[1]} frames; the autoencoder needs 1 + {time}k")
    ends = range(1 + time * (chunk - 1), x.shape[1] + time * chunk, time * chunk)
    return _filled(encoded(vae, _parts(x, ends)), 1 + (x.shape[1] - 1) // time)


def decode(vae: nnx.Module, z: Float[Array | np.ndarray, "b fl hl wl z"],
           chunk: int = 1) -> Float[np.ndarray, "b f h w 3"]:
    """`vae.decode` of latents, `chunk` latent frames at a time. Raises InputError before anything is decoded."""
    _counted(chunk, z.shape[1])
    ends = range(chunk, z.shape[1] + chunk, chunk)
    return _filled(decoded(vae, _parts(z, ends)), 1 + (z.shape[1] - 1) * vae.config.ratio[0])


def _counted(chunk: int, frames: int) -> None:
    if chunk < 1 or frames < 1:
        raise InputError(f"{frames} frames in chunks of {chunk}: both must be positive")


def _passed(step, vae, parts):
    graph, params = nnx.split(vae)
    past = None
    for part in parts:
        answer, past = step(graph, params, part, past)
        yield np.asarray(answer)


def _parts(x, ends):
    start = 0
    for end in ends:
        yield x[:, start:end]
        start = end


def _checked(parts, time: int):
    for k, part in enumerate(parts):
        frames = part.shape[1]
        if frames < 1 or (frames - (k == 0)) % time:
            need = f"1 + {time}k" if k == 0 else f"{time}k"
            raise InputError(f"chunk {k} of the clip has {frames} frames; the autoencoder needs {need}")
        yield part


def _filled(answers, frames: int) -> np.ndarray:
    whole, start = np.empty(0), 0
    for answer in answers:
        if not start:
            whole = np.empty((answer.shape[0], frames, *answer.shape[2:]), answer.dtype)
        whole[:, start : start + answer.shape[1]] = answer
        start += answer.shape[1]
    return whole
