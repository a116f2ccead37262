"""The density of a clip under a diffusion model, by following the probability-flow equation from data to noise.

Enters: a denoiser x, t -> (x0, eps) and clips. Leaves: log p in nats (Song et al. 2021, eq. 39). The divergence is the
exact trace, one derivative per element, or its estimate by random signs (Hutchinson 1989).
"""
from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float


def log_density(denoise: Callable, x: Float[Array, "b *s"], times: Float[Array, "i"], path,
                key: jax.Array | None = None, probes: int = 0) -> Float[Array, "b"]:
    """log p(x) of x at times[0], by Heun's method along `times`, which rise to 1, where x is noise N(0, sigma(1)^2).

    times[0] is small and above 0 where a denoiser has no eps for clean data; x is then taken for a draw of that time.
    `probes` random signs, drawn once with `key`, estimate the divergence without bias; with 0 it is exact."""
    if probes and key is None:
        raise ValueError("an estimate of the divergence draws random signs; give a key")
    signs = jax.random.rademacher(key, (probes, *x.shape), x.dtype) if probes else None

    def rates(x, t):
        return velocity(denoise, path, x, t), divergence(lambda y: velocity(denoise, path, y, t), x, signs)

    def step(carry, interval):
        x, gain = carry
        t, s = interval
        slope, spread = rates(x, t)
        slope_end, spread_end = rates(x + (s - t) * slope, s)
        half = 0.5 * (s - t)
        return (x + half * (slope + slope_end), gain + half * (spread + spread_end)), None

    start = (x, jnp.zeros(x.shape[:1], x.dtype))
    (noise, gain), _ = jax.lax.scan(step, start, (times[:-1], times[1:]))
    return gain + summed(jax.scipy.stats.norm.logpdf(noise, scale=path.sigma(times[-1])))


def velocity(denoise: Callable, path, x: Float[Array, "b *s"], t: Float[Array, ""]) -> Float[Array, "b *s"]:
    """dx/dt = alpha' x0 + sigma' eps."""
    x0, eps = denoise(x, t)
    data, noise = path.derivatives(t)
    return data * x0 + noise * eps


def divergence(field: Callable, x: Float[Array, "b *s"],
               signs: Float[Array, "r b *s"] | None = None) -> Float[Array, "b"]:
    """The trace of the derivative of `field` at each clip, which must not depend on the other clips: exact over the
    unit vectors, or the mean over `signs` v of v . (d field / dx) v."""
    def along(vector):
        return summed(vector * jax.jvp(field, (x,), (vector,))[1])

    if signs is not None:
        return jax.lax.map(along, signs).mean(axis=0)
    size = x[0].size

    def unit(i):
        return along(jnp.broadcast_to(jnp.zeros(size, x.dtype).at[i].set(1).reshape(x.shape[1:]), x.shape))

    return jax.lax.map(unit, jnp.arange(size)).sum(axis=0)


def summed(x: Float[Array, "b *s"]) -> Float[Array, "b"]:
    """The sum over all but clips."""
    return rearrange(x, "b ... -> b (...)").sum(axis=1)
