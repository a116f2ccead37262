"""The validation loss as an instrument: a fixed set of (clip, noise, t) triplets, the same for every run of a study.

Times are stratified: level j of `times` is drawn once, per clip, from [j, j + 1) / times. Read on any weights; leaves
the mean, its standard error over clips, and one mean per time bin (low noise first).
"""
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from sora_jax.types import Batch


def triplets(batch: Batch, times: int, seed: int) -> tuple[Float[Array, "k b"], jax.Array]:
    """Times `k b` and one key per level; a function of the seed and the number of clips alone."""
    key_time, key_noise = jax.random.split(jax.random.key(seed))
    jitter = jax.random.uniform(key_time, (times, batch.x.shape[0]))
    return (jnp.arange(times)[:, None] + jitter) / times, jax.random.split(key_noise, times)


def reader(graph: nnx.GraphDef, objective, batch: Batch, *, times: int, seed: int, chunk: int = 64) -> Callable:
    """`params → errors k b`, compiled once: clips go through in chunks, so memory does not grow with the set. The last
    chunk is filled up with its last clip, which is not counted again."""
    clips = batch.x.shape[0]
    chunk = min(chunk, clips)
    order = np.minimum(np.arange(-(-clips // chunk) * chunk), clips - 1)

    def chunked(leaf):
        return jnp.asarray(leaf)[order].reshape(-1, chunk, *leaf.shape[1:])

    parts = jax.tree.map(chunked, batch)
    t, keys = triplets(batch, times, seed)

    @jax.jit
    def read(params, parts, t, keys):
        model = nnx.merge(graph, nnx.State(params))

        def level(args):
            t, key = args
            eps = chunked(jax.random.normal(key, (clips, *parts.x.shape[2:])))
            errors = jax.lax.map(lambda a: objective.errors(model, *a), (parts, chunked(t), eps))
            return errors.reshape(-1)[:clips]

        return jax.lax.map(level, (t, keys))

    return lambda params: read(params, parts, t, keys)


def evaluate(errors: Float[np.ndarray, "k b"]) -> dict[str, float | list[float]]:
    """Mean, standard error over clips, and mean per time bin of what a reader returns."""
    errors = np.asarray(errors, np.float64)
    per_clip = errors.mean(0)
    return {
        "val_loss": float(errors.mean()),
        "val_loss_se": float(per_clip.std(ddof=1) / len(per_clip) ** 0.5) if len(per_clip) > 1 else 0.0,
        "val_bins": [float(x) for x in errors.mean(1)],
    }
