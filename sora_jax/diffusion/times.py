"""Draws of training times. Everything is in t, from data at 0 to noise at 1."""
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def uniform(key: jax.Array, count: int) -> Float[Array, "b"]:
    """Independent times, uniform on [0, 1)."""
    return jax.random.uniform(key, (count,))


def logit_normal(key: jax.Array, count: int, mean: float = 0.0, std: float = 1.0) -> Float[Array, "b"]:
    """sigmoid(mean + std z), z standard normal and stratified over the batch (Esser et al. 2024, eq. 19).

    Each draw has exactly that law; stratifying only makes the batch cover it evenly, which steadies the gradient."""
    key_where, key_order = jax.random.split(key)
    quantile = (jax.random.permutation(key_order, count) + jax.random.uniform(key_where, (count,))) / count
    return jax.nn.sigmoid(mean + std * jax.scipy.special.ndtri(jnp.clip(quantile, 1e-6, 1 - 1e-6)))


def discrete(key: jax.Array, count: int, steps: int) -> Float[Array, "b"]:
    """(i + 1) / steps for independent i, uniform on 0 .. steps - 1: the times of a chain of `steps`."""
    return (jax.random.randint(key, (count,), 0, steps) + 1) / steps


def stratified(count: int) -> Float[Array, "b"]:
    """The midpoints (i + 1/2) / count: the fixed times of the validation loss."""
    return (jnp.arange(count, dtype=jnp.float32) + 0.5) / count
