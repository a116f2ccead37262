"""The times that samplers walk: steps + 1 of them, from noise at t = 1 down to data at t = 0.

`shifted` is linear in t at shift 1. The others are laid in the ratio sigma / alpha of the path or in its logarithm.
That is infinite at t = 1 where alpha = 0 and zero at t = 0, so they are laid between two bounds; then the first time
becomes 1, where the noise is drawn, and 0 follows the last.
"""
import jax.numpy as jnp
from jaxtyping import Array, Float

from sora_jax.types import ConfigError

LOW, HIGH, RHO = 0.002, 80.0, 7.0  # Karras et al. 2022, table 1 and section 5
EDGE = 1e-3  # no node but the ends is nearer to them than this in t: a chain of 1000 has nothing there


def shifted(steps: int, shift: float | Float[Array, ""] = 1.0) -> Float[Array, "s"]:
    """Linear in t, then shifted towards noise by t -> shift t / (1 + (shift - 1) t) (Esser et al. 2024, eq. 23)."""
    t = jnp.linspace(1.0, 0.0, steps + 1, dtype=jnp.float32)
    return shift * t / (1.0 + (shift - 1.0) * t)


def karras(steps: int, path, rho: float = RHO) -> Float[Array, "s"]:
    """Equal steps of (sigma / alpha)^(1 / rho) (Karras et al. 2022, eq. 5)."""
    clean, noisy = (jnp.exp(-bound / rho) for bound in bounds(path))
    return ended(path, -rho * jnp.log(jnp.linspace(noisy, clean, steps)))


def uniform_log_snr(steps: int, path) -> Float[Array, "s"]:
    """Equal steps of log(alpha / sigma) (Lu et al. 2022, arXiv 2206.00927, section 3.3)."""
    clean, noisy = bounds(path)
    return ended(path, jnp.linspace(noisy, clean, steps))


def bounds(path) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """log(alpha / sigma) of the cleanest and of the noisiest node."""
    clean, noisy = path.log_snr(jnp.asarray(EDGE)), path.log_snr(jnp.asarray(1 - EDGE))
    return jnp.minimum(clean, -jnp.log(LOW)), jnp.maximum(noisy, -jnp.log(HIGH))


def ended(path, value: Float[Array, "i"]) -> Float[Array, "s"]:
    """The times of these log-SNRs, the first replaced by 1, and 0 after the last."""
    t = path.time(value)
    return jnp.concatenate([jnp.ones_like(t[:1]), t[1:], jnp.zeros_like(t[:1])])


GRIDS = {"shifted": lambda steps, path, shift: shifted(steps, shift),
         "karras": lambda steps, path, shift: karras(steps, path),
         "log-snr": lambda steps, path, shift: uniform_log_snr(steps, path)}


def check(name: str) -> None:
    """ConfigError unless there is a grid of this name."""
    if name not in GRIDS:
        raise ConfigError(f"sampler.grid={name!r} is not one of {', '.join(GRIDS)}")


def grid(name: str, steps: int, path, shift: float | Float[Array, ""] = 1.0) -> Float[Array, "s"]:
    """The grid of this name; `shift` is the shifted one's and the others do without. Raises ConfigError."""
    check(name)
    return GRIDS[name](steps, path, shift)
