"""E + A / N^eta + B / D^eta, one exponent for size and data: least squares on the loss (Gadre et al. 2024)."""
import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize_scalar

from sora_jax.scaling.points import Values

STEPS = (0.02, 2.0)  # where the exponent is looked for


def predict(theta: Float[np.ndarray, "4"], n: Values, d: Values) -> Float[np.ndarray, "..."]:
    """The loss at (n, d)."""
    floor, a, b, eta = theta
    return np.asarray(floor + a * np.asarray(n, np.float64) ** -eta + b * np.asarray(d, np.float64) ** -eta)


def solve(n: Float[np.ndarray, "points"], d: Float[np.ndarray, "points"],
           loss: Float[np.ndarray, "points"]) -> tuple[Float[np.ndarray, "4"], float]:
    """(E, A, B, eta) of least squares and the sum of squares: linear least squares inside a search over eta."""
    scale_n, scale_d = np.exp(np.log(n).mean()), np.exp(np.log(d).mean())

    def inner(eta: float) -> tuple[np.ndarray, float]:
        columns = np.stack([np.ones_like(loss), (n / scale_n) ** -eta, (d / scale_d) ** -eta], axis=1)
        found = np.linalg.lstsq(columns, loss, rcond=None)[0]
        return found, float(np.sum((columns @ found - loss) ** 2))

    grid = np.linspace(*STEPS, 100)
    best = grid[int(np.argmin([inner(eta)[1] for eta in grid]))]
    eta = minimize_scalar(lambda value: inner(value)[1], bounds=(max(best - 0.02, 1e-3), best + 0.02), method="bounded",
                          options={"xatol": 1e-12}).x
    (floor, a, b), squares = inner(eta)
    return np.array([floor, a * scale_n**eta, b * scale_d**eta, eta]), squares
