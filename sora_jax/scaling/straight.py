"""Straight lines in logs, y = coefficient * x ^ exponent: how N_opt grows with compute, and Kaplan's laws of one
variable. Weighted least squares; intervals come from whoever resamples."""
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sora_jax.types import InputError


class Line(NamedTuple):
    """y = coefficient * x ^ exponent, the residual rms of log y, and how many points it is through."""

    exponent: float
    coefficient: float
    rms: float
    points: int

    def at(self, x: Float[np.ndarray, "..."] | float) -> Float[np.ndarray, "..."] | float:
        """y at x."""
        return self.coefficient * np.asarray(x, np.float64) ** self.exponent


def line(x: Float[np.ndarray, "points"], y: Float[np.ndarray, "points"],
         std: Float[np.ndarray, "points"] | None = None) -> Line:
    """The line through (x, y) in logs; points count 1 / std^2, `std` being the standard deviation of log y. Raises
    InputError for fewer than two distinct x and for values that have no logarithm."""
    x, y = (np.asarray(values, np.float64) for values in (x, y))
    if len(np.unique(x)) < 2:
        raise InputError(f"{len(np.unique(x))} distinct values of x: a power law needs at least 2")
    if not (np.all(x > 0) and np.all(y > 0)):
        raise InputError("a power law needs positive numbers")
    std = np.ones_like(x) if std is None else np.asarray(std, np.float64)
    if not (np.all(np.isfinite(std)) and np.all(std > 0)):
        raise InputError("standard deviations must be positive")
    weight = std**-2.0 / np.sum(std**-2.0)
    log_x, log_y = np.log(x), np.log(y)
    mean_x, mean_y = weight @ log_x, weight @ log_y
    exponent = float(weight @ ((log_x - mean_x) * (log_y - mean_y)) / (weight @ (log_x - mean_x) ** 2))
    rest = log_y - mean_y - exponent * (log_x - mean_x)
    return Line(exponent, float(np.exp(mean_y - exponent * mean_x)), float(np.sqrt(weight @ rest**2)), len(x))


def frontier(x: Float[np.ndarray, "points"], loss: Float[np.ndarray, "points"]) -> np.ndarray:
    """Indices, by growing x, of the points whose loss no point of equal or smaller x reaches."""
    order = np.lexsort((loss, x))
    lowest, kept = np.inf, []
    for index in order:
        if loss[index] < lowest:
            lowest = loss[index]
            kept.append(index)
    return np.array(kept, int)
