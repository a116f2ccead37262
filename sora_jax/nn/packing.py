"""Who sees whom in a row of several clips side by side, each with a caption of its own.

`segments` `b n` is each token's clip, -1 for padding; `kept` `b s m` is which states of the s captions are caption.
True means visible. Every query is left with something to see, so that softmax has an answer; what padding sees does not
matter, for nobody sees padding. Without segments a row is one clip, and masks are as small as that allows.
"""
import jax.numpy as jnp
from einops import rearrange, repeat
from jaxtyping import Array, Bool, Int


def owners(kept: Bool[Array, "b s m"]) -> Int[Array, "b r"]:
    """The clip of every caption state, r = s m."""
    return repeat(jnp.arange(kept.shape[1]), "s -> b (s m)", b=kept.shape[0], m=kept.shape[2])


def among_tokens(segments: Int[Array, "b n"] | None) -> Bool[Array, "b n n"] | None:
    """Which tokens a token sees."""
    return None if segments is None else segments[:, :, None] == segments[:, None, :]


def from_tokens(segments: Int[Array, "b n"] | None, kept: Bool[Array, "b s m"]) -> Bool[Array, "b _n r"]:
    """Which caption states a token reads."""
    flat = rearrange(kept, "b s m -> b 1 (s m)")
    if segments is None:
        return flat
    readable = flat & (segments[:, :, None] == owners(kept)[:, None])
    return readable | ~readable.any(axis=-1, keepdims=True)


def among_all(segments: Int[Array, "b n"] | None, kept: Bool[Array, "b s m"], n: int) -> Bool[Array, "b _q _k"]:
    """Which tokens, and then caption states, a token, and then a caption state, sees."""
    flat = rearrange(kept, "b s m -> b (s m)")
    real = jnp.concatenate([jnp.ones((len(flat), n), bool), flat], axis=1)
    if segments is None:
        return real[:, None]
    clip = jnp.concatenate([segments, owners(kept)], axis=1)
    seen = (clip[:, :, None] == clip[:, None]) & real[:, None]
    return seen | jnp.eye(clip.shape[1], dtype=bool)
