"""Heun's method for the probability-flow equation (Karras et al. 2022, algorithm 1, without churn): order 2.

Enters: noise at times[0] and a denoiser x, t -> (x0, eps). Leaves: x at times[-1]. The last interval is an Euler step,
because the equation is singular at t = 0 on some paths; one step of local order 2 leaves the order of the whole at 2.
"""
from collections.abc import Callable

import jax
from jaxtyping import Array, Float


def sample(denoise: Callable, xt: Float[Array, "*s"], times: Float[Array, "i"], path, key: jax.Array,
           hold: Callable = lambda x: x) -> Float[Array, "*s"]:
    """Two denoiser calls per interval of `times`, one in the last. Deterministic: `key` is not used."""
    def slope(x, t):
        x0, eps = denoise(x, t)
        data, noise = path.derivatives(t)
        return data * x0 + noise * eps

    def step(x, interval):
        t, s = interval
        first = slope(x, t)
        guess = hold(x + (s - t) * first)
        return hold(x + 0.5 * (s - t) * (first + slope(guess, s))), None

    x, _ = jax.lax.scan(step, xt, (times[:-2], times[1:-1]))
    return hold(x + (times[-1] - times[-2]) * slope(x, times[-2]))
