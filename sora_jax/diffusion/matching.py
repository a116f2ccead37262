"""The regression behind every objective: corrupt, predict, compare, with some tokens given clean.

Enters: data tokens, noise, one time per clip, which tokens are given, and a predictor. Leaves: an error per token.
"""
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from sora_jax.diffusion.path import Path, corrupt, target


def errors(predict: Callable, path: Path, kind: str, x0: Float[Array, "b n p"], eps: Float[Array, "b n p"],
           t: Float[Array, "b"], given: Bool[Array, "b n"]) -> Float[Array, "b n"]:
    """Mean squared error per token of `predict(xt, levels, level)`.

    Given tokens enter without noise, as level 0 at time 0; the others are level 1 at time t."""
    xt = corrupt(path, x0, eps, jnp.where(given, 0.0, t[:, None]))
    levels = jnp.stack([jnp.zeros_like(t), t], axis=1)
    prediction = predict(xt, levels, (~given).astype(jnp.int32))
    return jnp.mean(jnp.square(prediction - target(path, kind, x0, eps, t)), axis=-1)


def unknown_mean(error: Float[Array, "b n"], given: Bool[Array, "b n"]) -> Float[Array, ""]:
    """The mean over the tokens that were not given."""
    return jnp.mean(error, where=~given)


def drop_captions(key: jax.Array, mask: Bool[Array, "b l"], rate: float) -> Bool[Array, "b l"]:
    """The mask with whole captions emptied with probability `rate`: the unconditional half of guidance."""
    return mask & ~jax.random.bernoulli(key, rate, (mask.shape[0], 1))
