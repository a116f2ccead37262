"""More tokens, more noise: the shift of times towards noise that keeps the uncertainty of a picture or film the same.

Neighbouring tokens of a finer grid say nearly the same, and together give away x0 at a noise that hid it on a coarse
grid (Esser et al. 2024, section 5.3.2, eq. 23; for variance-preserving paths Hoogeboom et al. 2023, section 3.1).
Frames are tokens too: the shift grows with the length of a film as with its resolution.
"""
import math

import jax.numpy as jnp
from jaxtyping import Array, Int

from sora_jax.diffusion.path import Path, Time


def factor(tokens: int | Int[Array, "b"], base: int) -> float | Time:
    """sqrt(tokens / base), how much more noise `tokens` tokens bear than `base`; 1 where base is 0: no shift."""
    if not base:
        return 1.0
    return math.sqrt(tokens / base) if isinstance(tokens, int) else jnp.sqrt(jnp.maximum(tokens, 1) / base)


def shift(path: Path, t: Time, by: float | Time) -> Time:
    """The times at which sigma / alpha is `by` times what it is at t.

    On the straight path by t / (1 + (by - 1) t), eq. 23 of Esser et al. 2024. A path that ends before is left at 1."""
    if isinstance(by, float):
        return t if by == 1 else path.time(path.log_snr(t) - math.log(by))
    return path.time(path.log_snr(t) - jnp.log(by))
