"""How noisy every token of a clip is: the known ones little or not at all, the others as their clip or their frame.

Enters: times of clips or of their frames, and which tokens are known. Leaves: the levels `b k` of each clip and which
of them each token has, as a model takes them. A time for each frame is diffusion forcing (Chen et al. 2024, arXiv
2407.01392, section 3.2), with frames in the place of their tokens.
"""
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

LEVELS = ("two", "frame")


class Levels(NamedTuple):
    """`times` of each clip, first that of its known tokens; `level` says which of them a token has; `own` are the times
    of clips or tokens that are not known, and those that known ones would have."""

    times: Float[Array, "b k"]
    level: Int[Array, "b n"]
    own: Float[Array, "b *n"]


def two(t: Float[Array, "b"], given: Bool[Array, "b n"], t_known: Float[Array, "b"]) -> Levels:
    """Level 0 for known tokens, level 1 for all others."""
    return Levels(jnp.stack([t_known, t], axis=1), (~given).astype(jnp.int32), t)


def by_frame(t: Float[Array, "b f"], frame: Int[Array, "b n"], given: Bool[Array, "b n"],
             t_known: Float[Array, "b"]) -> Levels:
    """Level 0 for known tokens, level 1 + i for the others of latent frame i."""
    times = jnp.concatenate([t_known[:, None], t], axis=1)
    return Levels(times, jnp.where(given, 0, 1 + frame), jnp.take_along_axis(t, frame, axis=1))


def known_times(key: jax.Array, count: int, most: float) -> Float[Array, "b"]:
    """The time of the noise on the known tokens of each clip, uniform from 0 to `most`; 0 if there is none."""
    return jax.random.uniform(key, (count,), maxval=most) if most else jnp.zeros(count)
