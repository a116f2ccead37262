"""Sums of power laws, log L = log(E + sum_k exp(c_k - p_k x_k)): residuals, exact gradients, and a solver for many
starts or many resamples at once.

theta is (c_1 .. c_K, log E, p_1 .. p_K). Huber loss on log loss, summed and divided by delta^2, because an optimiser
whose tolerance is absolute below one stops where it starts on the mean (Besiroglu et al. 2024). Solver: Gauss-Newton
with Levenberg-Marquardt damping on iteratively reweighted squares, one small system per start, all starts together.
"""
import dataclasses
import itertools

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize, nnls

DELTA = 1e-3
ITERATIONS = 300
SETTLED = 1e-9  # relative gain of an accepted step below which a start has arrived
LONGEST = 2.0  # of a step in any parameter: a factor of e^2 in a coefficient
POLISH = {"gtol": 1e-8, "maxiter": 200}


@dataclasses.dataclass(frozen=True)
class Problem:
    """Centred logs of the points: `x` one row for each term, `z` of the loss; and a weight for each point."""

    x: Float[np.ndarray, "terms points"]
    z: Float[np.ndarray, "points"]
    weight: Float[np.ndarray, "points"]
    delta: float = DELTA

    @property
    def terms(self) -> int:
        """How many powers besides the constant."""
        return len(self.x)


def log_loss(theta: Float[np.ndarray, "#s p"], x: Float[np.ndarray, "terms points"]) -> Float[np.ndarray, "s points"]:
    """The log of the predicted loss, a row for each theta."""
    return _sum(theta, x)[0]


def _sum(theta: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(log loss `s points`, share of each term, and last of the constant, in it `s terms+1 points`)."""
    k = len(x)
    logs = np.concatenate([theta[:, :k, None] - theta[:, k + 1:, None] * x,
                           np.broadcast_to(theta[:, k, None, None], (len(theta), 1, x.shape[1]))], axis=1)
    peak = logs.max(axis=1, keepdims=True)
    powers = np.exp(logs - peak)
    total = powers.sum(axis=1, keepdims=True)
    return (peak + np.log(total))[:, 0], powers / total


def shares(theta: Float[np.ndarray, "p"], problem: Problem) -> tuple[Float[np.ndarray, "points"],
                                                                     Float[np.ndarray, "parts points"]]:
    """Log residual of each point, and the share of each term (the constant last) in its predicted loss."""
    value, share = _sum(np.asarray(theta, np.float64)[None], problem.x)
    return value[0] - problem.z, share[0]


def objective(theta: Float[np.ndarray, "p"], problem: Problem) -> tuple[float, Float[np.ndarray, "p"]]:
    """Sum of Huber terms divided by delta^2, and its gradient."""
    residual, share = shares(theta, problem)
    slope = problem.weight * np.clip(residual, -problem.delta, problem.delta) / problem.delta**2
    coefficients = share @ slope
    exponents = -(share[:-1] * slope * problem.x).sum(axis=1)
    return float(problem.weight @ _huber(residual, problem.delta)), np.concatenate([coefficients, exponents])


def _huber(residual: np.ndarray, delta: float) -> np.ndarray:
    size = np.abs(residual)
    return np.where(size <= delta, 0.5 * residual**2, delta * (size - 0.5 * delta)) / delta**2


def descend(problem: Problem, starts: Float[np.ndarray, "s p"], weights: Float[np.ndarray, "#s points"] | None = None,
            ) -> tuple[Float[np.ndarray, "s"], Float[np.ndarray, "s p"]]:
    """(objective, theta) where each start ends. `weights`: a row of point weights for each start (a resample), instead
    of those of the problem."""
    theta = np.array(starts, np.float64)
    weight = np.broadcast_to(problem.weight if weights is None else weights, (len(theta), len(problem.z))).copy()
    value = _value(theta, weight, problem)
    damping, alive = np.full(len(theta), 1e-2), np.arange(len(theta))
    for _ in range(ITERATIONS):
        if not alive.size:
            break
        step = _step(theta[alive], weight[alive], damping[alive], problem)
        tried = theta[alive] + step
        reached = _value(tried, weight[alive], problem)
        better = reached < value[alive]
        gain = np.where(better, value[alive] - reached, np.inf) / np.maximum(value[alive], 1e-12)
        theta[alive[better]], value[alive[better]] = tried[better], reached[better]
        damping[alive] = np.clip(np.where(better, damping[alive] * 0.3, damping[alive] * 5), 1e-9, 1e9)
        alive = alive[(gain > SETTLED) & (damping[alive] < 1e8)]
    return value, theta


def _value(theta: np.ndarray, weight: np.ndarray, problem: Problem) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        found = (weight * _huber(_sum(theta, problem.x)[0] - problem.z, problem.delta)).sum(axis=1)
    return np.where(np.isfinite(found), found, np.inf)


def _step(theta: np.ndarray, weight: np.ndarray, damping: np.ndarray, problem: Problem) -> np.ndarray:
    value, share = _sum(theta, problem.x)
    residual, delta = value - problem.z, problem.delta
    jacobian = np.concatenate([share, -share[:, :-1] * problem.x], axis=1)
    pull = weight * np.minimum(1.0, delta / np.maximum(np.abs(residual), 1e-300)) / delta**2
    weighted = jacobian * pull[:, None]
    slope = (weighted @ residual[..., None])[..., 0]
    curve = weighted @ jacobian.transpose(0, 2, 1)
    size = np.einsum("spp->sp", curve)
    floor = 1e-12 * size.max(axis=1, keepdims=True) + 1e-300
    curve[:, np.arange(size.shape[1]), np.arange(size.shape[1])] += damping[:, None] * size + floor
    return np.clip(-np.linalg.solve(curve, slope[..., None])[..., 0], -LONGEST, LONGEST)


def polish(problem: Problem, start: Float[np.ndarray, "p"]) -> tuple[float, Float[np.ndarray, "p"]]:
    """The last digits, by BFGS with the exact gradient; the start itself if nothing is gained."""
    value = objective(start, problem)[0]
    with np.errstate(over="ignore", invalid="ignore"):
        found = minimize(objective, start, args=(problem,), jac=True, method="BFGS", options=POLISH)
    return (float(found.fun), found.x) if found.fun < value else (value, np.asarray(start))


def grid_starts(problem: Problem) -> Float[np.ndarray, "s p"]:
    """Starts scaled to the data: at the centre each power term is 5 or 25 % of the median loss, E a half to 95 % of the
    lowest, exponents a quarter to three quarters. 108 of them for two terms."""
    median, lowest = np.median(problem.z), problem.z.min()
    term = median + np.log([0.05, 0.25])
    constant = lowest + np.log([0.5, 0.8, 0.95])
    return np.array(list(itertools.product(*[term] * problem.terms, constant, *[(0.25, 0.5, 0.75)] * problem.terms)))


def projected_start(problem: Problem, size: int = 24) -> Float[np.ndarray, "p"]:
    """Variable projection: over a grid of exponents, the constant and the coefficients by non-negative least squares on
    relative loss (Czech et al. 2026). Needs no luck; its estimand is the mean, so it is a start and not the answer."""
    inverse, best = np.exp(-problem.z), (np.inf, None)
    size = size if problem.terms < 3 else 10
    for exponents in itertools.product(np.linspace(0.05, 1.6, size), repeat=problem.terms):
        powers = [np.exp(-p * row) for p, row in zip(exponents, problem.x, strict=True)]
        columns = np.stack([*powers, np.ones_like(problem.z)], axis=1)
        coefficients, error = nnls(columns * inverse[:, None], np.ones_like(inverse))
        if error < best[0]:
            best = (error, (*np.log(np.maximum(coefficients, 1e-3 * np.exp(problem.z.min()))), *exponents))
    return np.array(best[1])


def resamples(problem: Problem, runs: tuple[str, ...], count: int, seed: int = 0) -> Float[np.ndarray, "s points"]:
    """Point weights of `count` sets of runs drawn with replacement, each with three distinct values in every row of x.
    A run comes with all its points: branches share its noise. Fewer rows if such sets are hard to draw."""
    rng, rows = np.random.default_rng(seed), []
    names, member = np.unique(runs, return_inverse=True)
    for _ in range(50 * count):
        if len(rows) == count:
            break
        weight = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[member].astype(np.float64)
        if all(len(np.unique(row[weight > 0])) >= 3 for row in problem.x):
            rows.append(weight)
    return np.array(rows).reshape(-1, len(problem.z))
