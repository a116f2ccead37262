"""Gaussian paths between data and noise, and the conversion of any prediction into any other.

Time t runs in [0, 1] from data at t = 0 to noise at t = 1, everywhere in the package. A path is alpha and sigma of
x_t = alpha(t) x0 + sigma(t) eps. The discrete index i = 0 .. steps - 1 of DDPM (Ho et al. 2020, whose own t is i + 1)
is the time t = (i + 1) / steps, and t = 0 is the data itself.
"""
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

KINDS = ("x0", "eps", "v", "flow")
Time = Float[Array, "*t"]
Rates = tuple[Time, Time]


@dataclass(frozen=True)
class Flow:
    """The straight path x_t = (1 - t) x0 + t eps (Lipman et al. 2022, eq. 20; Liu et al. 2022, eq. 1)."""

    def alpha(self, t: Time) -> Time:
        """The weight of the data, 1 - t."""
        return 1.0 - t

    def sigma(self, t: Time) -> Time:
        """The weight of the noise, t."""
        return t

    def derivatives(self, t: Time) -> Rates:
        """(d alpha / dt, d sigma / dt)."""
        return -jnp.ones_like(t), jnp.ones_like(t)


@dataclass(frozen=True)
class LinearVP:
    """DDPM's variance-preserving chain with linear betas (Ho et al. 2020, section 4), read at t = (i + 1) / steps.

    Between the steps log alpha is interpolated linearly, so that derivatives exist and grid times are exact."""

    steps: int = 1000
    beta_min: float = 1e-4
    beta_max: float = 0.02

    def table(self) -> Float[Array, "s"]:
        """log alpha at t = 0, 1/steps, ..., 1: half the running sum of log(1 - beta)."""
        beta = jnp.linspace(self.beta_min, self.beta_max, self.steps, dtype=jnp.float32)
        return jnp.concatenate([jnp.zeros(1), 0.5 * jnp.cumsum(jnp.log1p(-beta))])

    def log_alpha(self, t: Time) -> Time:
        """The table read at t, linear in between."""
        return jnp.interp(t * self.steps, jnp.arange(self.steps + 1, dtype=jnp.float32), self.table())

    def alpha(self, t: Time) -> Time:
        """sqrt(alpha-bar), the weight of the data."""
        return jnp.exp(self.log_alpha(t))

    def sigma(self, t: Time) -> Time:
        """sqrt(1 - alpha-bar), the weight of the noise."""
        return jnp.sqrt(-jnp.expm1(2 * self.log_alpha(t)))

    def derivatives(self, t: Time) -> Rates:
        """(d alpha / dt, d sigma / dt) from the slope of log alpha in the interval that ends at t; sigma' is infinite
        at t = 0."""
        left = jnp.clip(jnp.ceil(t * self.steps - 1e-3).astype(jnp.int32) - 1, 0, self.steps - 1)
        table = self.table()
        slope = self.steps * (table[left + 1] - table[left])
        alpha = self.alpha(t)
        return slope * alpha, -slope * alpha**2 / self.sigma(t)


Path = Flow | LinearVP


def over(value: Float[Array, "*t"], x: Float[Array, "*s"]) -> Float[Array, "*u"]:
    """`value` with axes added on the right until it broadcasts against `x`."""
    return value.reshape(value.shape + (1,) * (x.ndim - value.ndim))


def corrupt(path: Path, x0: Float[Array, "*s"], eps: Float[Array, "*s"], t: Time) -> Float[Array, "*s"]:
    """x_t = alpha(t) x0 + sigma(t) eps; t is "", `b` or `b n`."""
    return over(path.alpha(t), x0) * x0 + over(path.sigma(t), x0) * eps


def target(path: Path, kind: str, x0: Float[Array, "*s"], eps: Float[Array, "*s"], t: Time) -> Float[Array, "*s"]:
    """What a network of this `kind` should predict: x0, eps, v = alpha eps - sigma x0 (Salimans and Ho 2022, section 4)
    or flow = d x_t / dt = alpha' x0 + sigma' eps."""
    data, noise = weights(path, kind, t)
    return over(data, x0) * x0 + over(noise, x0) * eps


def weights(path: Path, kind: str, t: Time) -> Rates:
    """The (a, b) of the prediction a x0 + b eps. Raises KeyError for an unknown kind."""
    if kind == "flow":
        return path.derivatives(t)
    one, zero = jnp.ones_like(t), jnp.zeros_like(t)
    return {"x0": (one, zero), "eps": (zero, one), "v": (-path.sigma(t), path.alpha(t))}[kind]


def split(path: Path, kind: str, prediction: Float[Array, "*s"], xt: Float[Array, "*s"],
          t: Time) -> tuple[Float[Array, "*s"], Float[Array, "*s"]]:
    """(x0, eps) that agree with both x_t and the prediction: the inverse of the two linear equations.

    An eps prediction leaves x0 unknown where alpha = 0 and an x0 prediction leaves eps unknown where sigma = 0; there
    the division is by 1e-8 and the answer is meaningless, not infinite."""
    a, b = weights(path, kind, t)
    alpha, sigma = path.alpha(t), path.sigma(t)
    determinant = alpha * b - sigma * a
    scale = 1.0 / jnp.where(jnp.abs(determinant) < 1e-8, 1e-8, determinant)
    x0 = over(scale * b, xt) * xt - over(scale * sigma, xt) * prediction
    eps = over(scale * alpha, xt) * prediction - over(scale * a, xt) * xt
    return x0, eps
