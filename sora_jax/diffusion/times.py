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
    return jax.nn.sigmoid(mean + std * normal(key, count))


def mode(key: jax.Array, count: int, scale: float = 1.29) -> Float[Array, "b"]:
    """1 - u - scale (cos^2(pi u / 2) - 1 + u), u uniform and stratified over the batch (Esser et al. 2024, eq. 20).

    Uniform at scale 0; more of the middle of the path above, more of its ends below. A law of times for -1 <= scale <=
    2 / (pi - 2)."""
    u = quantiles(key, count)
    return jnp.clip(1 - u - scale * (jnp.square(jnp.cos(0.5 * jnp.pi * u)) - 1 + u), 0.0, 1.0)


def normal(key: jax.Array, count: int) -> Float[Array, "b"]:
    """Standard normal numbers, stratified over the batch."""
    return jax.scipy.special.ndtri(jnp.clip(quantiles(key, count), 1e-6, 1 - 1e-6))


def quantiles(key: jax.Array, count: int) -> Float[Array, "b"]:
    """Uniform on [0, 1), one in each of `count` equal parts, in random order."""
    key_where, key_order = jax.random.split(key)
    return (jax.random.permutation(key_order, count) + jax.random.uniform(key_where, (count,))) / count


def discrete(key: jax.Array, count: int, steps: int) -> Float[Array, "b"]:
    """(i + 1) / steps for independent i, uniform on 0 .. steps - 1: the times of a chain of `steps`."""
    return (jax.random.randint(key, (count,), 0, steps) + 1) / steps


def stratified(count: int) -> Float[Array, "b"]:
    """The midpoints (i + 1/2) / count: the fixed times of the validation loss."""
    return (jnp.arange(count, dtype=jnp.float32) + 0.5) / count
