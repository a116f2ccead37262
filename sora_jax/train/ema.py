"""Averages of the weights along a run.

Power function (Karras et al. 2024, arXiv:2312.02696, section 3.1): after update t, ema = sum over tau <= t of weights
proportional to tau^gamma, so the horizon is a fixed fraction `sigma_rel` of the run, whatever its length. Exponential:
a fixed half-life in updates. Both are written as ema += rate * (params - ema) with the rate computed by expm1/log1p,
because 1 - beta loses its digits in float32 when beta is near one.
"""
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from sora_jax.types import ConfigError


def gamma(sigma_rel: float) -> float:
    """The exponent whose profile has relative standard deviation `sigma_rel`: s^2 = (g+1) / ((g+2)^2 (g+3))."""
    if not 0 < sigma_rel < 12 ** -0.5:
        raise ConfigError(f"ema.horizon={sigma_rel} is not the relative width of an average; give one in (0, 0.288)")
    roots = np.roots([1, 7, 16 - sigma_rel ** -2, 12 - sigma_rel ** -2])
    return float(max(roots.real))


@dataclasses.dataclass(frozen=True)
class Power:
    """`sigma_rel`: width of the average as a fraction of the run so far."""

    sigma_rel: float = 0.10

    def __call__(self, ema: PyTree, params: PyTree, step: Int[Array, ""]) -> PyTree:
        """`params` are the weights after update t = step + 1; beta = (1 - 1/t)^(gamma + 1)."""
        t = jnp.asarray(step + 1, jnp.float32)
        return blend(ema, params, -jnp.expm1((gamma(self.sigma_rel) + 1) * jnp.log1p(-1 / t)))


@dataclasses.dataclass(frozen=True)
class Exponential:
    """`half_life`: updates after which a weight counts half."""

    half_life: float = 1000.0

    def __call__(self, ema: PyTree, params: PyTree, step: Int[Array, ""]) -> PyTree:
        """beta = 2^(-1 / half_life), from the initial weights on."""
        if self.half_life <= 0:
            raise ConfigError(f"ema.half_life={self.half_life} is not a number of updates; give a positive one")
        return blend(ema, params, jnp.float32(-np.expm1(-np.log(2) / self.half_life)))


def blend(ema: PyTree, params: PyTree, rate: Float[Array, ""]) -> PyTree:
    """Leaf by leaf, `ema` moved by `rate` towards `params`; the leaf keeps its dtype."""
    return jax.tree.map(lambda e, p: (e + rate * (p - e)).astype(e.dtype), ema, params)
