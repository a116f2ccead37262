"""Euler steps of the probability-flow equation dx/dt = alpha' x0 + sigma' eps (Song et al. 2021, eq. 13): order 1.

Enters: noise at times[0] and a denoiser x, t -> (x0, eps). Leaves: x at times[-1].
"""
from collections.abc import Callable

import jax
from jaxtyping import Array, Float


def sample(denoise: Callable, xt: Float[Array, "*s"], times: Float[Array, "i"], path, key: jax.Array,
           hold: Callable = lambda x: x) -> Float[Array, "*s"]:
    """One denoiser call per interval of `times`. Deterministic: `key` is not used."""
    def step(x, interval):
        t, s = interval
        x0, eps = denoise(x, t)
        data, noise = path.derivatives(t)
        return hold(x + (s - t) * (data * x0 + noise * eps)), None

    return jax.lax.scan(step, xt, (times[:-1], times[1:]))[0]
