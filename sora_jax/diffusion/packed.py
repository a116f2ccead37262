"""The regression behind diffusion objectives on rows of clips of any sizes: what `matching` is for clips of one size.

Every clip of a row has a time, known tokens and a caption of its own. The mean is over the tokens that are neither
known nor padding, so a clip counts with its tokens, in a row as in a batch of its own.
"""
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sora_jax.diffusion import masks, matching, weighting
from sora_jax.diffusion.path import corrupt, target
from sora_jax.types import Packed, Scalars


def token_times(t: Float[Array, "b s"], segments: Int[Array, "b n"]) -> Float[Array, "b n"]:
    """Each token's time: that of its clip, the first clip's where there is none."""
    return jnp.take_along_axis(t, jnp.maximum(segments, 0), axis=1)


def loss(objective, model, batch: Packed, key: jax.Array) -> tuple[Float[Array, ""], Scalars]:
    """The training loss: random times, noise, known tokens and dropped captions, all functions of the key."""
    key_time, key_noise, key_known, key_drop = jax.random.split(key, 4)
    x0, segments, (rows, clips) = batch.tokens, batch.segments, batch.text.shape[:2]
    lengths = (segments[:, None] == jnp.arange(clips)[:, None]).sum(axis=-1)
    t = objective.times(key_time, rows * clips, lengths.reshape(-1)).reshape(rows, clips)
    eps = jax.random.normal(key_noise, x0.shape, x0.dtype)
    given = masks.random_known_packed(key_known, batch.positions, segments, clips, objective.known)
    mask = matching.drop_captions(key_drop, batch.mask, objective.caption_drop)

    error = token_errors(objective, model, batch._replace(mask=mask), eps, t, given)
    if objective.weight != "none":
        each = token_times(t, segments)
        error = error * weighting.weight(objective.path, objective.kind, each, objective.weight, objective.gamma)
    real = segments >= 0
    return jnp.mean(error, where=real & ~given), {
        "known_fraction": jnp.mean(given, where=real), "time_mean": jnp.mean(t, where=lengths > 0),
        "useful_tokens": real.mean()}


def token_errors(objective, model, batch: Packed, eps: Float[Array, "b n p"], t: Float[Array, "b s"],
                 given: jax.Array) -> Float[Array, "b n"]:
    """Mean squared error per token, at a time for each clip. Known tokens and padding enter without noise."""
    x0, segments = batch.tokens, batch.segments
    still = given | (segments < 0)
    each = token_times(t, segments)
    xt = corrupt(objective.path, x0, eps, jnp.where(still, 0.0, each))
    levels = jnp.stack([jnp.zeros_like(t), t], axis=-1).reshape(len(t), -1)
    level = 2 * jnp.maximum(segments, 0) + ~still
    prediction = model(xt, batch.positions, levels, level, batch.text, batch.mask, segments)
    return jnp.mean(jnp.square(prediction - target(objective.path, objective.kind, x0, eps, each)), axis=-1)
