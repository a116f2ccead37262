"""Gaussian paths between data and noise, and the conversion of any prediction into any other.

Time t runs in [0, 1] from data at t = 0 to noise at t = 1, everywhere in the package. A path is alpha and sigma of
x_t = alpha(t) x0 + sigma(t) eps. The discrete index i = 0 .. steps - 1 of DDPM (Ho et al. 2020, whose own t is i + 1)
is the time t = (i + 1) / steps, and t = 0 is the data itself.
"""
import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

KINDS = ("x0", "eps", "v", "flow", "edm")
Time = Float[Array, "*t"]
Rates = tuple[Time, Time]


class Path:
    """What paths share. Each has alpha, sigma and derivatives, finite on (0, 1], and time, the inverse of log_snr.

    `sigma_data` is the standard deviation of the data that the path is made for: latents are normalised to 1. Where
    `pure_noise`, alpha(1) = 0: nothing of the data is left at the end."""

    sigma_data: ClassVar[float] = 1.0
    pure_noise: ClassVar[bool] = False

    def log_snr(self, t: Time) -> Time:
        """log(alpha / sigma), half the logarithm of the signal-to-noise ratio of unit data. Falls strictly with t,
        from infinity at t = 0; -infinity at t = 1 where `pure_noise`."""
        return jnp.log(self.alpha(t)) - jnp.log(self.sigma(t))


def variance_preserving(log_snr: Time) -> Time:
    """log alpha of alpha^2 + sigma^2 = 1 at this log(alpha / sigma)."""
    return -0.5 * jax.nn.softplus(-2.0 * log_snr)


@dataclass(frozen=True)
class Flow(Path):
    """The straight path x_t = (1 - t) x0 + t eps (Lipman et al. 2022, eq. 20; Liu et al. 2022, eq. 1)."""

    pure_noise: ClassVar[bool] = True

    def alpha(self, t: Time) -> Time:
        """The weight of the data, 1 - t."""
        return 1.0 - t

    def sigma(self, t: Time) -> Time:
        """The weight of the noise, t."""
        return t

    def derivatives(self, t: Time) -> Rates:
        """(d alpha / dt, d sigma / dt)."""
        return -jnp.ones_like(t), jnp.ones_like(t)

    def time(self, log_snr: Time) -> Time:
        """The t of this log(alpha / sigma)."""
        return jax.nn.sigmoid(-log_snr)


@dataclass(frozen=True)
class LinearVP(Path):
    """DDPM's variance-preserving chain with linear betas (Ho et al. 2020, section 4), read at t = (i + 1) / steps.

    Between the steps log alpha is interpolated linearly, so that derivatives exist and grid times are exact. With
    `zero_terminal` the alphas from step to step are shifted and scaled to keep the first and make the last zero (Lin et
    al. 2023, algorithm 1), so that the chain ends in noise alone."""

    steps: int = 1000
    beta_min: float = 1e-4
    beta_max: float = 0.02
    zero_terminal: bool = False

    @property
    def pure_noise(self) -> bool:
        """Whether alpha(1) = 0."""
        return self.zero_terminal

    def table(self) -> Float[Array, "s"]:
        """log alpha at t = 0, 1/steps, ..., 1 before any rescaling: half the running sum of log(1 - beta)."""
        beta = jnp.linspace(self.beta_min, self.beta_max, self.steps, dtype=jnp.float32)
        return jnp.concatenate([jnp.zeros(1), 0.5 * jnp.cumsum(jnp.log1p(-beta))])

    def ends(self) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
        """log alpha of the first and the last step before rescaling, and the scale that algorithm 1 multiplies by."""
        table = self.table()
        return table[1], table[-1], -1.0 / jnp.expm1(table[-1] - table[1])

    def log_alpha(self, t: Time) -> Time:
        """The table read at t, linear in between."""
        return jnp.interp(t * self.steps, jnp.arange(self.steps + 1, dtype=jnp.float32), self.table())

    def alpha(self, t: Time) -> Time:
        """sqrt(alpha-bar), the weight of the data."""
        plain = self.log_alpha(t)
        if not self.zero_terminal:
            return jnp.exp(plain)
        first, last, scale = self.ends()
        rescaled = jnp.where(t < 1, scale * jnp.exp(last) * jnp.expm1(plain - last), 0.0)
        return jnp.where(plain >= first, jnp.exp(plain), rescaled)

    def sigma(self, t: Time) -> Time:
        """sqrt(1 - alpha-bar), the weight of the noise."""
        plain = self.log_alpha(t)
        if not self.zero_terminal:
            return jnp.sqrt(-jnp.expm1(2 * plain))
        first, _, scale = self.ends()
        lost = -jnp.expm1(jnp.maximum(plain, first)) - scale * jnp.exp(first) * jnp.expm1(jnp.minimum(plain - first, 0))
        return jnp.sqrt(lost * (2 - lost))

    def derivatives(self, t: Time) -> Rates:
        """(d alpha / dt, d sigma / dt) from the slope of log alpha in the interval that ends at t; sigma' is infinite
        at t = 0."""
        left = jnp.clip(jnp.ceil(t * self.steps - 1e-3).astype(jnp.int32) - 1, 0, self.steps - 1)
        table = self.table()
        slope = self.steps * (table[left + 1] - table[left])
        alpha = self.alpha(t)
        if not self.zero_terminal:
            return slope * alpha, -slope * alpha**2 / self.sigma(t)
        change = slope * jnp.exp(self.log_alpha(t)) * jnp.where(left > 0, self.ends()[2], 1.0)
        return change, -alpha * change / self.sigma(t)

    def time(self, log_snr: Time) -> Time:
        """The t of this log(alpha / sigma), 1 for what is below the end of the chain."""
        plain = variance_preserving(log_snr)
        if self.zero_terminal:
            first, last, scale = self.ends()
            plain = jnp.where(plain >= first, plain, jnp.log(jnp.exp(plain) / scale + jnp.exp(last)))
        grid = jnp.arange(self.steps + 1, dtype=jnp.float32) / self.steps
        return jnp.interp(-plain, -self.table(), grid)


@dataclass(frozen=True)
class Cosine(Path):
    """alpha = cos(u(t)) / cos(u(0)) with u = (t + offset) / (1 + offset) pi / 2 (Nichol and Dhariwal 2021, eq. 17).

    Their chain of `steps` limits the last beta to `cap`, so that alpha(1) > 0. Likewise here: in the last interval log
    alpha is linear, and ends at what the limited beta leaves."""

    steps: int = 1000
    offset: float = 0.008
    cap: float = 0.999

    @property
    def knee(self) -> tuple[float, float, float]:
        """(t, log alpha, d log alpha / dt) where the last interval begins."""
        log_alpha = math.log(math.sin(self.rate / self.steps) / math.cos(self.rate * self.offset))
        return 1 - 1 / self.steps, log_alpha, 0.5 * math.log1p(-self.cap) * self.steps

    @property
    def rate(self) -> float:
        """du / dt."""
        return 0.5 * math.pi / (1 + self.offset)

    def alpha(self, t: Time) -> Time:
        """sqrt(alpha-bar), the weight of the data."""
        start, log_alpha, slope = self.knee
        curve = jnp.sin(self.rate * (1 - t)) / math.cos(self.rate * self.offset)
        return jnp.where(t <= start, curve, jnp.exp(log_alpha + slope * (t - start)))

    def sigma(self, t: Time) -> Time:
        """sqrt(1 - alpha-bar), the weight of the noise."""
        both = jnp.sin(self.rate * t) * jnp.sin(self.rate * (t + 2 * self.offset))
        curve = jnp.sqrt(both) / math.cos(self.rate * self.offset)
        return jnp.where(t <= self.knee[0], curve, jnp.sqrt(1 - jnp.square(self.alpha(t))))

    def derivatives(self, t: Time) -> Rates:
        """(d alpha / dt, d sigma / dt); sigma' is infinite at t = 0."""
        start, _, slope = self.knee
        alpha = self.alpha(t)
        curve = -self.rate * jnp.cos(self.rate * (1 - t)) / math.cos(self.rate * self.offset)
        change = jnp.where(t <= start, curve, slope * alpha)
        return change, -alpha * change / self.sigma(t)

    def time(self, log_snr: Time) -> Time:
        """The t of this log(alpha / sigma), 1 for what is below the end of the path."""
        start, log_alpha, slope = self.knee
        plain, clean = variance_preserving(log_snr), math.cos(self.rate * self.offset)
        sine = jnp.sqrt(math.sin(self.rate * self.offset) ** 2 + clean**2 * jax.nn.sigmoid(-2 * log_snr))
        curve = jnp.arctan2(sine, clean * jnp.exp(plain)) / self.rate - self.offset
        return jnp.clip(jnp.where(plain >= log_alpha, curve, start + (plain - log_alpha) / slope), 0.0, 1.0)


@dataclass(frozen=True)
class Karras(Path):
    """x_t = c_in (x0 + level eps), c_in = (level^2 + sigma_data^2)^(-1/2): what a network preconditioned after Karras
    et al. 2022 (table 1) sees. It preserves the variance of data / sigma_data, so alpha(0) = 1 / sigma_data.

    Their eq. 5 makes level^(1/rho) linear in time from sigma_min to sigma_max. Here the result is mapped linearly onto
    0 .. sigma_max, so that t = 0 is the data, the map is smooth with an inverse, and no level moves by more than
    sigma_min. t, not their c_noise = log(level) / 4, is what the network reads: it is fed with sinusoids of 1000 t."""

    sigma_min: float = 0.004
    sigma_max: float = 160.0
    rho: float = 7.0
    sigma_data: float = 1.0

    @property
    def curve(self) -> tuple[float, float]:
        """(a, b) of level = a ((1 + b t)^rho - 1)."""
        growth = (self.sigma_max / self.sigma_min) ** (1 / self.rho) - 1
        return self.sigma_max / (self.sigma_max / self.sigma_min - 1), growth

    def level(self, t: Time) -> Time:
        """The noise level, sigma in the paper: that of noise against unscaled data."""
        scale, growth = self.curve
        return scale * jnp.expm1(self.rho * jnp.log1p(growth * t))

    def alpha(self, t: Time) -> Time:
        """c_in, the weight of the data."""
        return 1 / jnp.sqrt(jnp.square(self.level(t)) + self.sigma_data**2)

    def sigma(self, t: Time) -> Time:
        """c_in level, the weight of the noise."""
        return self.level(t) * self.alpha(t)

    def derivatives(self, t: Time) -> Rates:
        """(d alpha / dt, d sigma / dt)."""
        scale, growth = self.curve
        change = scale * self.rho * growth * (1 + growth * t) ** (self.rho - 1) * self.alpha(t) ** 3
        return -self.level(t) * change, self.sigma_data**2 * change

    def log_snr(self, t: Time) -> Time:
        """log(alpha / sigma) = -log level."""
        return -jnp.log(self.level(t))

    def time(self, log_snr: Time) -> Time:
        """The t of level = exp(-log_snr), 1 for levels above sigma_max."""
        scale, growth = self.curve
        return jnp.clip(jnp.expm1(jnp.log1p(jnp.exp(-log_snr) / scale) / self.rho) / growth, 0.0, 1.0)


def over(value: Float[Array, "*t"], x: Float[Array, "*s"]) -> Float[Array, "*u"]:
    """`value` with axes added on the right until it broadcasts against `x`."""
    return value.reshape(value.shape + (1,) * (x.ndim - value.ndim))


def corrupt(path: Path, x0: Float[Array, "*s"], eps: Float[Array, "*s"], t: Time) -> Float[Array, "*s"]:
    """x_t = alpha(t) x0 + sigma(t) eps; t is "", `b` or `b n`."""
    return over(path.alpha(t), x0) * x0 + over(path.sigma(t), x0) * eps


def target(path: Path, kind: str, x0: Float[Array, "*s"], eps: Float[Array, "*s"], t: Time) -> Float[Array, "*s"]:
    """What a network of this `kind` should predict: x0, eps, v = alpha eps - sigma x0 (Salimans and Ho 2022, section
    4), flow = d x_t / dt = alpha' x0 + sigma' eps, or edm, the F of Karras et al. 2022 (eq. 7 and the target of eq. 8),
    which is -v where the path preserves variance and the data have unit variance."""
    data, noise = weights(path, kind, t)
    return over(data, x0) * x0 + over(noise, x0) * eps


def weights(path: Path, kind: str, t: Time) -> Rates:
    """The (a, b) of the prediction a x0 + b eps. Raises KeyError for an unknown kind."""
    if kind == "flow":
        return path.derivatives(t)
    one, zero, alpha, sigma = jnp.ones_like(t), jnp.zeros_like(t), path.alpha(t), path.sigma(t)
    if kind == "edm":
        length = jnp.hypot(path.sigma_data * alpha, sigma)
        return sigma / (path.sigma_data * length), -path.sigma_data * alpha / length
    return {"x0": (one, zero), "eps": (zero, one), "v": (-sigma, alpha)}[kind]


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


def score(path: Path, kind: str, prediction: Float[Array, "*s"], xt: Float[Array, "*s"], t: Time) -> Float[Array, "*s"]:
    """The gradient of log p_t(x_t) that agrees with the prediction: -eps / sigma (Song et al. 2021, section 3.3; by
    Tweedie's formula exact for the best prediction). Infinite at t = 0."""
    return -split(path, kind, prediction, xt, t)[1] / over(path.sigma(t), xt)


def advance(path: Path, x: Float[Array, "*s"], x0: Float[Array, "*s"], t: Float[Array, ""],
            s: Float[Array, ""]) -> Float[Array, "*s"]:
    """x at time s from x at t, exact if x0 is the same all the way (Lu et al. 2022, arXiv 2211.01095, section 4.1)."""
    kept = path.sigma(s) / path.sigma(t)
    return kept * x + (path.alpha(s) - path.alpha(t) * kept) * x0
