"""The reverse-time SDE dx = (f x - g^2 score) dt + g dw by Euler and Maruyama (Song et al. 2021, eq. 6), with
score = -eps / sigma, f = alpha' / alpha and g^2 = 2 sigma (sigma' - f sigma).

Enters: noise at times[0] and a denoiser x, t -> (x0, eps). Leaves: x at times[-1].
"""
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def sample(denoise: Callable, xt: Float[Array, "*s"], times: Float[Array, "i"], path, key: jax.Array,
           hold: Callable = lambda x: x) -> Float[Array, "*s"]:
    """One denoiser call and one draw of noise per interval of `times`; into data itself (sigma = 0) no noise is added.

    Where alpha = 0 the rates are infinite, because nothing of the data is left to keep: there x is drawn anew around
    the predicted x0, which is what the equation does in the limit."""
    def step(x, interval):
        t, s, key_step = interval
        x0, eps = denoise(x, t)
        z = jax.random.normal(key_step, x.shape, x.dtype)
        data, noise = path.derivatives(t)
        empty = path.alpha(t) < jnp.finfo(x.dtype).tiny
        rate = noise - path.sigma(t) * data / jnp.where(empty, 1.0, path.alpha(t))
        std = jnp.where(path.sigma(s) > 0, jnp.sqrt(2 * path.sigma(t) * rate * (t - s)), 0.0)
        walked = x + (s - t) * (data * x0 + (noise + rate) * eps) + std * z
        return hold(jnp.where(empty, path.alpha(s) * x0 + path.sigma(s) * z, walked)), None

    keys = jax.random.split(key, len(times) - 1)
    return jax.lax.scan(step, xt, (times[:-1], times[1:], keys))[0]
