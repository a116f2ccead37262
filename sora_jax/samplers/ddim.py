"""DDIM with eta = 0 (Song et al. 2020, eq. 12): forget nothing, keep the predicted noise.

Enters: noise at times[0] and a denoiser x, t -> (x0, eps). Leaves: x at times[-1].
"""
from collections.abc import Callable

import jax
from jaxtyping import Array, Float


def sample(denoise: Callable, xt: Float[Array, "*s"], times: Float[Array, "i"], path, key: jax.Array,
           hold: Callable = lambda x: x) -> Float[Array, "*s"]:
    """x_s = alpha(s) x0 + sigma(s) eps for each interval of `times`. Deterministic: `key` is not used."""
    def step(x, interval):
        t, s = interval
        x0, eps = denoise(x, t)
        return hold(path.alpha(s) * x0 + path.sigma(s) * eps), None

    return jax.lax.scan(step, xt, (times[:-1], times[1:]))[0]
