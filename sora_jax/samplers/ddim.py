"""DDIM (Song et al. 2020, eq. 12): forget nothing, keep the predicted noise, or with eta > 0 replace a part of it.

Enters: noise at times[0] and a denoiser x, t -> (x0, eps). Leaves: x at times[-1]. At eta = 1 it is ancestral sampling.
"""
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def sample(denoise: Callable, xt: Float[Array, "*s"], times: Float[Array, "i"], path, key: jax.Array,
           hold: Callable = lambda x: x, eta: float = 0.0) -> Float[Array, "*s"]:
    """x_s = alpha(s) x0 + sigma(s) eps for each interval of `times`; at eta = 0 the `key` is not used.

    With eta > 0 noise of eq. 16, in the form that holds on any path, takes the place of as much predicted noise."""
    def step(x, interval):
        t, s = interval
        x0, eps = denoise(x, t)
        return hold(path.alpha(s) * x0 + path.sigma(s) * eps), None

    def renewing(x, interval):
        t, s, key_step = interval
        x0, eps = denoise(x, t)
        share = eta * renewed(path, t, s)
        noise = jnp.sqrt(1.0 - jnp.square(share)) * eps + share * jax.random.normal(key_step, x.shape, x.dtype)
        return hold(path.alpha(s) * x0 + path.sigma(s) * noise), None

    if eta == 0.0:
        return jax.lax.scan(step, xt, (times[:-1], times[1:]))[0]
    keys = jax.random.split(key, len(times) - 1)
    return jax.lax.scan(renewing, xt, (times[:-1], times[1:], keys))[0]


def renewed(path, t: Float[Array, ""], s: Float[Array, ""]) -> Float[Array, ""]:
    """The standard deviation of q(x_s | x_t, x0) as a share of sigma(s): eq. 16 at eta = 1 over sqrt(1 - alpha-bar)."""
    kept = path.alpha(t) * path.sigma(s) / (path.alpha(s) * path.sigma(t))
    return jnp.sqrt(jnp.maximum(1.0 - jnp.square(kept), 0.0))
