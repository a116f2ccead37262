"""What a token is told of its place beside what attention sees: added once, before the first block.

none · learned: a vector per place in the sequence, in one dimension (Dosovitskiy et al. 2021, section 3.1) · sincos-2d:
fixed features of row and column, none of the frame (Peebles and Xie 2023, as in He et al. 2022) · sincos: of frame, row
and column · rotary: nothing added, queries and keys are turned · sincos+rotary: both.
"""
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sora_jax.nn.embed import sincos, sinusoids

KINDS = ("none", "learned", "sincos-2d", "sincos", "rotary", "sincos+rotary")


def fixed(kind: str, positions: Float[Array, "b n 3"], width: int) -> Float[Array, "b n d"] | None:
    """The features that `kind` adds to tokens of this width; None if it adds none, or learned ones."""
    if kind.startswith("sincos-2d"):
        return sincos_2d(positions, width)
    return sincos(positions, width) if kind.startswith("sincos") else None


def sincos_2d(positions: Float[Array, "*s 3"], width: int) -> Float[Array, "*s d"]:
    """[sin, cos] of the column and then of the row, half the width each, at periods up to 10 000."""
    halves = []
    for axis in (2, 1):
        cos, sin = jnp.split(sinusoids(positions[..., axis], width // 2), 2, axis=-1)
        halves += [sin, cos]
    return jnp.concatenate(halves, axis=-1)


def rank(segments: Int[Array, "b n"]) -> Int[Array, "b n"]:
    """Each token's place in its own clip, counted from 0; the tokens of a clip lie side by side."""
    n = segments.shape[1]
    starts = jnp.concatenate([jnp.ones_like(segments[:, :1], bool), segments[:, 1:] != segments[:, :-1]], axis=1)
    first = jnp.where(starts, jnp.arange(n), 0)
    return jnp.arange(n) - jax.lax.cummax(first, axis=1)

