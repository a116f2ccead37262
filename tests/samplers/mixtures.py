"""A mixture of two Gaussians on a line: its best denoiser, its density, and where the flow takes a point."""
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

WEIGHTS, MEANS, STDS = np.array([0.3, 0.7]), np.array([-1.0, 0.8]), np.array([0.25, 0.4])


@dataclass(frozen=True)
class SmoothVP:
    """The limit of many steps of LinearVP, in closed form: log alpha = -(beta_0 t / 2 + (beta_1 - beta_0) t^2 / 4)."""

    start: float = 0.1
    end: float = 20.0

    def alpha(self, t):
        return jnp.exp(-0.5 * self.start * t - 0.25 * (self.end - self.start) * t**2)

    def sigma(self, t):
        return jnp.sqrt(-jnp.expm1(2 * jnp.log(self.alpha(t))))

    def derivatives(self, t):
        beta, alpha = self.start + (self.end - self.start) * t, self.alpha(t)
        return -0.5 * beta * alpha, 0.5 * beta * alpha**2 / self.sigma(t)


def denoise(path, x, t):
    """(E[x0 | x_t], the noise that goes with it), element by element."""
    alpha, sigma = path.alpha(t), path.sigma(t)
    variance = alpha**2 * STDS**2 + sigma**2
    off = x[..., None] - alpha * MEANS
    share = jax.nn.softmax(jnp.log(WEIGHTS) - 0.5 * jnp.log(variance) - 0.5 * off**2 / variance)
    x0 = (share * (MEANS + alpha * STDS**2 / variance * off)).sum(axis=-1)
    return x0, (x - alpha * x0) / jnp.maximum(sigma, 1e-12)


def moments(path, t):
    """Means and standard deviations of the components at time t, in numpy."""
    alpha, sigma = (np.asarray(weight(jnp.asarray(t)), np.float64) for weight in (path.alpha, path.sigma))
    return alpha * MEANS, np.sqrt(alpha**2 * STDS**2 + sigma**2)


def density(path, x, t):
    """The log density of x at time t."""
    means, stds = moments(path, t)
    z = (np.asarray(x)[..., None] - means) / stds
    return special.logsumexp(-0.5 * z**2 - np.log(stds * np.sqrt(2 * np.pi)), b=WEIGHTS, axis=-1)


def below(path, x, t):
    """The share of the law at time t that lies below x."""
    means, stds = moments(path, t)
    return (WEIGHTS * special.ndtr((np.asarray(x)[..., None] - means) / stds)).sum(axis=-1)


def carried(path, x, t, s):
    """Where the probability flow takes points x of time t: on a line it keeps their quantiles."""
    want, low, high = below(path, x, t), np.full(len(x), -10.0), np.full(len(x), 10.0)
    for _ in range(80):
        middle = 0.5 * (low + high)
        less = below(path, middle, s) < want
        low, high = np.where(less, middle, low), np.where(less, high, middle)
    return 0.5 * (low + high)
