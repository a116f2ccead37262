"""The log-SNR of a path, lambda(t) = log(alpha / sigma) (Lu et al. 2022, arXiv 2206.00927, section 3), and its inverse.

Enters: a path and times, or values of lambda. Leaves: lambda, from -inf (noise) to +inf (data), or times in [0, 1].
"""
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sora_jax.diffusion.path import Flow

HALVINGS = 60  # of [0, 1]: more than a float64 can tell apart


def log_snr(path, t: Float[Array, "*t"]) -> Float[Array, "*t"]:
    """log alpha - log sigma: it falls with t, +inf where sigma = 0 and -inf where alpha = 0."""
    return jnp.log(path.alpha(t)) - jnp.log(path.sigma(t))


def time_of(path, value: Float[Array, "*t"]) -> Float[Array, "*t"]:
    """The t at which `log_snr(path, t)` is `value`: in closed form on the straight path, by bisection on others. A
    value that the path never has gives the nearer end."""
    if isinstance(path, Flow):
        return jax.nn.sigmoid(-value)

    def halve(_, bounds):
        low, high = bounds
        middle = 0.5 * (low + high)
        later = log_snr(path, middle) > value
        return jnp.where(later, middle, low), jnp.where(later, high, middle)

    low, high = jax.lax.fori_loop(0, HALVINGS, halve, (jnp.zeros_like(value), jnp.ones_like(value)))
    return 0.5 * (low + high)
