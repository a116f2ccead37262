"""The regression behind every diffusion objective: corrupt, predict, compare, with some tokens given clean.

Enters: a model of tokens, a batch of normalised latents with captions, and an objective that names its path, kind,
draw of times, weight, caption dropout and mask probabilities. Leaves: the mean squared error over the tokens not
given, weighed in training and not when it is measured.
"""
from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float

from sora_jax.diffusion import levels, masks, weighting
from sora_jax.diffusion.path import KINDS, Path, corrupt, over, target
from sora_jax.types import Batch, ConfigError, Scalars


def token_errors(predict: Callable, path: Path, kind: str, x0: Float[Array, "b n p"], eps: Float[Array, "b n p"],
                 given: Bool[Array, "b n"] | None, noisy: levels.Levels) -> Float[Array, "b n"]:
    """Mean squared error per token of `predict(xt, levels, level)`, each token noised as its level says; none is
    `given` if that is None."""
    own = over(noisy.own, x0[:, :, 0])
    xt = corrupt(path, x0, eps, own if given is None else jnp.where(given, noisy.times[:, :1], own))
    prediction = predict(xt, noisy.times, noisy.level)
    return jnp.mean(jnp.square(prediction - target(path, kind, x0, eps, noisy.own)), axis=-1)


def drop_captions(key: jax.Array, mask: Bool[Array, "*b l"], rate: float) -> Bool[Array, "*b l"]:
    """The mask with whole captions emptied with probability `rate`: the unconditional half of guidance."""
    return mask & ~jax.random.bernoulli(key, rate, (*mask.shape[:-1], 1))


def loss(objective, model, batch: Batch, key: jax.Array) -> tuple[Float[Array, ""], Scalars]:
    """The training loss: random times, noise, known tokens and dropped captions, all functions of the key."""
    key_time, key_noise, key_known, key_drop = jax.random.split(key, 4)
    x0, positions = model.tokenise(batch.x)
    t = random_times(objective, key_time, batch.x.shape[1], x0)
    eps = jax.random.normal(key_noise, x0.shape, x0.dtype)
    mask = drop_captions(key_drop, batch.mask, objective.caption_drop)
    if objective.levels == "two" and not any(objective.known[1:]):
        given, noisy = None, levels.one(t, x0.shape[1])
    else:
        given = masks.random_known(key_known, positions, objective.known)
        t_known = levels.known_times(jax.random.fold_in(key_known, 1), len(x0), objective.known_noise)
        noisy = (levels.by_frame(t, positions[:, :, 0].astype(jnp.int32), given, t_known)
                 if objective.levels == "frame" else levels.two(t, given, t_known))

    def predict(xt, times, level):
        return model(xt, positions, times, level, batch.text, mask, layout=model.layout(batch.x.shape[1:4]))

    error = token_errors(predict, objective.path, objective.kind, x0, eps, given, noisy)
    if objective.weight != "none":
        weight = weighting.weight(objective.path, objective.kind, noisy.own, objective.weight, objective.gamma)
        error = over(weight, error) * error
    fraction = jnp.float32(0.0) if given is None else given.mean()
    return jnp.mean(error, where=None if given is None else ~given), {"known_fraction": fraction, "time_mean": t.mean()}


def random_times(objective, key: jax.Array, frames: int, x0: Float[Array, "b n p"]) -> Float[Array, "b *f"]:
    """A training time for each clip, or for each of its latent frames."""
    count, tokens = x0.shape[:2]
    if objective.levels == "two":
        return objective.times(key, count, tokens)
    return rearrange(objective.times(key, count * frames, tokens), "(b f) -> b f", f=frames)


def errors(objective, model, batch: Batch, t: Float[Array, "b"], eps: Float[Array, "b fl hl wl z"],
           as_kind: str | None = None) -> Float[Array, "b"]:
    """The validation instrument: per-clip error at given times and noise, no token given, no caption dropped, never
    weighed. With `as_kind`, the error that the prediction has when it is turned into that kind on the same path.

    `eps` has the shape of `batch.x`, so that the same noise serves models of any patch. Raises KeyError for an unknown
    kind."""
    x0, positions = model.tokenise(batch.x)
    noise, _ = model.tokenise(eps)

    def predict(xt, times, level):
        return model(xt, positions, times, level, batch.text, batch.mask, layout=model.layout(batch.x.shape[1:4]))

    noisy = levels.one(t, noise.shape[1])
    found = token_errors(predict, objective.path, objective.kind, x0, noise, None, noisy).mean(axis=1)
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
    if objective.levels not in levels.LEVELS:
        raise ConfigError(f"objective.levels={objective.levels!r} is not one of {', '.join(levels.LEVELS)}")
    if not 0 <= objective.known_noise < 1:
        raise ConfigError(f"objective.known_noise={objective.known_noise} must be a time in [0, 1): at 1 known tokens "
                          "are noise")
    if objective.shift_tokens < 0:
        raise ConfigError(f"objective.shift_tokens={objective.shift_tokens} must be the tokens of a clip whose times "
                          "are not shifted, or 0 for none to be shifted")
    known, patterns = objective.known, masks.PATTERNS
    if len(known) != len(patterns) or min(known) < 0 or abs(sum(known) - 1) > 1e-6:
        raise ConfigError(f"objective.known={tuple(known)} must be {len(patterns)} probabilities that sum to 1, one "
                          f"for each of {', '.join(patterns)}")
    if not 0 <= objective.caption_drop <= 1:
        raise ConfigError(f"objective.caption_drop={objective.caption_drop} is not a probability")
