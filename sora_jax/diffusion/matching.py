"""The regression behind every diffusion objective: corrupt, predict, compare, with some tokens given clean.

Enters: a model of tokens, a batch of normalised latents with captions, and an objective that names its path, kind,
draw of times, weight, caption dropout and mask probabilities. Leaves: the mean squared error over the tokens not
given, weighed in training and not when it is measured.
"""
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from sora_jax.diffusion import masks, weighting
from sora_jax.diffusion.path import KINDS, Path, corrupt, target
from sora_jax.types import Batch, ConfigError, Scalars


def token_errors(predict: Callable, path: Path, kind: str, x0: Float[Array, "b n p"], eps: Float[Array, "b n p"],
                 t: Float[Array, "b"], given: Bool[Array, "b n"]) -> Float[Array, "b n"]:
    """Mean squared error per token of `predict(xt, levels, level)`.

    Given tokens enter without noise, as level 0 at time 0; the others are level 1 at time t."""
    xt = corrupt(path, x0, eps, jnp.where(given, 0.0, t[:, None]))
    levels = jnp.stack([jnp.zeros_like(t), t], axis=1)
    prediction = predict(xt, levels, (~given).astype(jnp.int32))
    return jnp.mean(jnp.square(prediction - target(path, kind, x0, eps, t)), axis=-1)


def drop_captions(key: jax.Array, mask: Bool[Array, "*b l"], rate: float) -> Bool[Array, "*b l"]:
    """The mask with whole captions emptied with probability `rate`: the unconditional half of guidance."""
    return mask & ~jax.random.bernoulli(key, rate, (*mask.shape[:-1], 1))


def loss(objective, model, batch: Batch, key: jax.Array) -> tuple[Float[Array, ""], Scalars]:
    """The training loss: random times, noise, known tokens and dropped captions, all functions of the key."""
    key_time, key_noise, key_known, key_drop = jax.random.split(key, 4)
    x0, positions = model.tokenise(batch.x)
    t = objective.times(key_time, *x0.shape[:2])
    eps = jax.random.normal(key_noise, x0.shape, x0.dtype)
    given = masks.random_known(key_known, positions, objective.known)
    mask = drop_captions(key_drop, batch.mask, objective.caption_drop)

    def predict(xt, levels, level):
        return model(xt, positions, levels, level, batch.text, mask, layout=model.layout(batch.x.shape[1:4]))

    error = token_errors(predict, objective.path, objective.kind, x0, eps, t, given)
    if objective.weight != "none":
        weight = weighting.weight(objective.path, objective.kind, t, objective.weight, objective.gamma)
        error = weight[:, None] * error
    return jnp.mean(error, where=~given), {"known_fraction": given.mean(), "time_mean": t.mean()}


def errors(objective, model, batch: Batch, t: Float[Array, "b"], eps: Float[Array, "b fl hl wl z"],
           as_kind: str | None = None) -> Float[Array, "b"]:
    """The validation instrument: per-clip error at given times and noise, no token given, no caption dropped, never
    weighed. With `as_kind`, the error that the prediction has when it is turned into that kind on the same path.

    `eps` has the shape of `batch.x`, so that the same noise serves models of any patch. Raises KeyError for an unknown
    kind."""
    x0, positions = model.tokenise(batch.x)
    noise, _ = model.tokenise(eps)

    def predict(xt, levels, level):
        return model(xt, positions, levels, level, batch.text, batch.mask, layout=model.layout(batch.x.shape[1:4]))

    nothing = jnp.zeros(noise.shape[:2], bool)
    found = token_errors(predict, objective.path, objective.kind, x0, noise, t, nothing).mean(axis=1)
    if as_kind in (None, objective.kind):
        return found
    return weighting.exchange(objective.path, objective.kind, as_kind, t) * found


def check(objective) -> None:
    """ConfigError unless the fields shared by all diffusion objectives make sense."""
    if objective.kind not in KINDS:
        raise ConfigError(f"objective.kind={objective.kind!r} is not one of {', '.join(KINDS)}")
    if objective.kind == "eps" and objective.path.pure_noise:
        raise ConfigError("objective.kind='eps' with a path that ends in noise alone: at t = 1, where sampling begins, "
                          "it says nothing of the data. Use v, x0 or flow, or a path that ends before")
    if objective.weight not in weighting.WEIGHTS:
        raise ConfigError(f"objective.weight={objective.weight!r} is not one of {', '.join(weighting.WEIGHTS)}")
    if not objective.gamma > 0:
        raise ConfigError(f"objective.gamma={objective.gamma} must be positive: the SNR above which no weight grows")
    if objective.shift_tokens < 0:
        raise ConfigError(f"objective.shift_tokens={objective.shift_tokens} must be the tokens of a clip whose times "
                          "are not shifted, or 0 for none to be shifted")
    known, patterns = objective.known, masks.PATTERNS
    if len(known) != len(patterns) or min(known) < 0 or abs(sum(known) - 1) > 1e-6:
        raise ConfigError(f"objective.known={tuple(known)} must be {len(patterns)} probabilities that sum to 1, one "
                          f"for each of {', '.join(patterns)}")
    if not 0 <= objective.caption_drop <= 1:
        raise ConfigError(f"objective.caption_drop={objective.caption_drop} is not a probability")
