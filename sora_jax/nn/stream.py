"""A clip that goes through layers piece by piece, each layer with what it must remember of the pieces before.

A layer that streams has `stream(x, past) → (y, past)`. `past` None is the beginning of a clip; what comes back goes in
with the next piece. Nothing is kept in the layer: a cache is an argument and a result.
"""
from collections.abc import Iterable

import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

Past = PyTree[Float[Array, "..."]] | None


def last_frames(x: Float[Array, "b f h w c"], past: Float[Array, "b p h w c"] | None,
                count: int) -> Float[Array, "b q h w c"]:
    """The last `count` frames of `past` and then `x`; frames before the beginning are zeros."""
    if past is None:
        past = jnp.zeros((x.shape[0], count, *x.shape[2:]), x.dtype)
    if x.shape[1] < count:
        x = jnp.concatenate([past, x], 1)
    return x[:, x.shape[1] - count:]


def through(layers: Iterable, x: Float[Array, "b f h w c"], past: Past) -> tuple[Float[Array, "b fo ho wo d"], Past]:
    """`x` through each layer in turn, and the list of their caches."""
    layers, kept = list(layers), []
    for layer, own in zip(layers, [None] * len(layers) if past is None else past, strict=True):
        x, own = layer.stream(x, own)
        kept.append(own)
    return x, kept
