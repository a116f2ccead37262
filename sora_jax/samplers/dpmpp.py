"""DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2): two steps' predictions of the data, order 2.

Enters: noise at times[0] and a denoiser x, t -> (x0, eps). Leaves: x at times[-1]. With lambda = log(alpha / sigma) the
step is exact but for x0, which a line in lambda through this and the last prediction stands for. An end where lambda is
infinite (alpha = 0 or sigma = 0) has no such line: there x0 stays what it is, and the order is 1 in that step.
"""
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sora_jax.diffusion.path import advance


def sample(denoise: Callable, xt: Float[Array, "*s"], times: Float[Array, "i"], path, key: jax.Array,
           hold: Callable = lambda x: x) -> Float[Array, "*s"]:
    """One denoiser call per interval of `times`. Deterministic: `key` is not used."""
    def step(carry, interval):
        x, last = carry
        t, s, weight = interval
        x0, _ = denoise(x, t)
        data = x0 + weight * (x0 - last)
        return (hold(advance(path, x, data, t, s)), x0), None

    (x, _), _ = jax.lax.scan(step, (xt, jnp.zeros_like(xt)), (times[:-1], times[1:], extrapolation(path, times)))
    return x


def extrapolation(path, times: Float[Array, "i"]) -> Float[Array, "j"]:
    """1 / (2 r) of every interval: half its length in lambda over that of the one before; 0 in the first, and where one
    of the two is infinite."""
    lengths = jnp.diff(path.log_snr(times))
    ratio = 0.5 * lengths[1:] / lengths[:-1]
    finite = jnp.isfinite(lengths[1:]) & jnp.isfinite(lengths[:-1])
    return jnp.concatenate([jnp.zeros_like(lengths[:1]), jnp.where(finite, ratio, 0.0)])
