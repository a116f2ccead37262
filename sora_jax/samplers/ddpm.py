"""Ancestral sampling: each step draws from q(x_s | x_t, x0) (Ho et al. 2020, eqs. 6 and 7; any path and any pair of
times by Kingma et al. 2021, eqs. 25 to 27).

Enters: noise at times[0] and a denoiser x, t -> (x0, eps). Leaves: x at times[-1]. With times (i + 1) / steps on
`LinearVP(steps)` this is DDPM's sampler with its smaller variance.
"""
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def sample(denoise: Callable, xt: Float[Array, "*s"], times: Float[Array, "i"], path, key: jax.Array,
           hold: Callable = lambda x: x) -> Float[Array, "*s"]:
    """One denoiser call and one draw of noise per interval of `times`."""
    def step(x, interval):
        t, s, key_step = interval
        x0, _ = denoise(x, t)
        data, noise, std = posterior(path, t, s)
        return hold(noise * x + data * x0 + std * jax.random.normal(key_step, x.shape, x.dtype)), None

    keys = jax.random.split(key, len(times) - 1)
    return jax.lax.scan(step, xt, (times[:-1], times[1:], keys))[0]


def posterior(path, t: Float[Array, ""], s: Float[Array, ""]) -> tuple[Float[Array, ""], ...]:
    """The weights of x0 and x_t in the mean of q(x_s | x_t, x0), and its standard deviation, for s < t."""
    ratio = path.alpha(t) / path.alpha(s)
    variance = jnp.square(path.sigma(t))
    kept = jnp.square(path.sigma(s)) / variance
    fresh = jnp.maximum(1.0 - jnp.square(ratio) * kept, 0.0)
    return path.alpha(s) * fresh, ratio * kept, jnp.sqrt(fresh * variance * kept)
