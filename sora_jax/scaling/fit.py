"""Fits L(N, D) = E + A / N^alpha + B / D^beta to points of runs (Hoffmann et al. 2022, approach 3).

In: `Points`. Out: a `Law` with bootstrap draws over runs, and flags for every way in which such a fit is known to go
wrong. The solver, its loss and its starts are in `powers`.
"""
import dataclasses

import numpy as np
from jaxtyping import Float

from sora_jax.scaling import powers
from sora_jax.scaling.law import Law
from sora_jax.scaling.points import Points
from sora_jax.scaling.powers import DELTA, Problem
from sora_jax.types import InputError

VANISHED = 1e-6
STEEPEST = 4.0
FLAT = 0.03  # an exponent below which a term changes by a tenth over a factor of 30
STRAY = 0.02  # published sweeps scatter by 0.5 % (Chinchilla, 240 points), mixed regimes by 5 %
FEWEST_RUNS = 5
FAR = 8.0  # robust standard deviations: among 10^5 points of Gaussian scatter, none
REACHED = 1.001  # times the lowest objective, and 1e-6 of it a point: a start that ended here found the optimum


def fit(points: Points, *, delta: float = DELTA, starts: Float[np.ndarray, "starts 5"] | None = None,
        bootstrap: int = 400, groups: tuple[str, ...] | None = None, seed: int = 0) -> Law:
    """Fits the law. `starts` are extra rows (log A, log B, log E, alpha, beta); `groups` overrides the run of each
    point; `bootstrap` resamples that many sets of runs. Raises InputError for annealed and un-annealed points
    together, for fewer than six points or three distinct n or d, and if fewer than two starts reach the optimum."""
    runs = check(points, groups)
    problem, center = posed(points, delta)
    candidates = np.vstack([powers.projected_start(problem), powers.grid_starts(problem), _centred(starts, center)])
    values, ends = powers.descend(problem, candidates)
    winner = int(values.argmin())
    best, theta = powers.polish(problem, ends[winner])
    reached = arrived(values, best, problem)
    if reached < 2:
        raise InputError(f"only {reached} of {len(values)} starts reached the lowest objective: this optimum cannot be "
                         "trusted; add runs, or look for an outlier")
    draws = resampled(problem, theta, runs, bootstrap, seed)
    law = _law(points, problem, theta, center, draws, runs)
    flags = _flags(problem, theta, candidates[winner], reached / len(values), len(set(runs)))
    return dataclasses.replace(law, objective=best * delta**2, starts=len(values), reached=reached, flags=flags)


def posed(points: Points, delta: float = DELTA) -> tuple[Problem, tuple[float, float]]:
    """The problem in logs centred at the geometric means, and those centres."""
    log_n, log_d = np.log(points.n), np.log(points.d)
    center = (float(log_n.mean()), float(log_d.mean()))
    x = np.stack([log_n - center[0], log_d - center[1]])
    return Problem(x, np.log(points.loss), np.ones(len(log_n)), float(delta)), center


def check(points: Points, groups: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """The run of each point. Raises InputError for points that cannot determine a law."""
    if len(set(points.annealed.tolist())) > 1:
        raise InputError(f"{int((~points.annealed).sum())} un-annealed points among {len(points.n)}: their loss is not "
                         "final; choose one kind with points(records, annealed=True)")
    if len(points.n) < 6:
        raise InputError(f"{len(points.n)} points cannot determine the five parameters of a law; it needs at least 6")
    for name, column, unit in (("n", points.n, points.unit_n), ("d", points.d, points.unit_d)):
        if len(np.unique(column)) < 3:
            raise InputError(f"{len(np.unique(column))} distinct values of {name} ({unit}): a power law with an offset "
                             "needs at least 3")
    runs = points.group if groups is None else tuple(map(str, groups))
    if len(runs) != len(points.n):
        raise InputError(f"groups has {len(runs)} names for {len(points.n)} points")
    return runs


def arrived(values: Float[np.ndarray, "starts"], best: float, problem: Problem) -> int:
    """How many starts ended at the optimum."""
    return int(np.sum(values <= best * REACHED + 1e-6 * len(problem.z)))


def _centred(starts: np.ndarray | None, center: tuple[float, float]) -> np.ndarray:
    if starts is None:
        return np.empty((0, 5))
    rows = np.array(starts, np.float64).reshape(-1, 5)
    rows[:, 0] -= rows[:, 3] * center[0]
    rows[:, 1] -= rows[:, 4] * center[1]
    return rows


def resampled(problem: Problem, theta: Float[np.ndarray, "p"], runs: tuple[str, ...], count: int,
              seed: int) -> Float[np.ndarray, "draws p"]:
    """Warm-started fits to resampled runs; none from fewer than five runs, whose admissible resamples are nearly the
    sample itself and would claim to know everything."""
    enough = count and len(set(runs)) >= FEWEST_RUNS
    weights = powers.resamples(problem, runs, count if enough else 0, seed)
    return powers.descend(problem, np.repeat(theta[None], len(weights), axis=0), weights)[1]


def _law(points: Points, problem: Problem, theta: np.ndarray, center: tuple[float, float], draws: np.ndarray,
         runs: tuple[str, ...]) -> Law:
    residual, _ = powers.shares(theta, problem)
    covariance = ()
    if len(draws) > 1:
        readable = np.stack([np.exp(draws[:, 2]), draws[:, 0] + draws[:, 3] * center[0],
                             draws[:, 1] + draws[:, 4] * center[1], draws[:, 3], draws[:, 4]])
        covariance = tuple(map(tuple, np.cov(readable).tolist()))
    return Law(theta=tuple(theta.tolist()), center=center, unit_n=points.unit_n, unit_d=points.unit_d,
               unit_loss=points.unit_loss, points=len(residual), runs=len(set(runs)),
               range_n=(float(points.n.min()), float(points.n.max())),
               range_d=(float(points.d.min()), float(points.d.max())), delta=problem.delta, objective=0.0, starts=0,
               reached=0, scatter=float(1.4826 * np.median(np.abs(residual))),
               rms=float(np.sqrt(np.sum(residual**2) / max(len(residual) - 5, 1))), covariance=covariance,
               draws=tuple(map(tuple, draws.tolist())), notes=points.notes)


def _flags(problem: Problem, theta: np.ndarray, start: np.ndarray, fraction: float, runs: int) -> tuple[str, ...]:
    residual, share = powers.shares(theta, problem)
    flags = [f"the {name} term vanished: its share of the loss is below {VANISHED:g} at every point"
             for name, part in zip(("N", "D", "E"), share, strict=True) if part.max() < VANISHED]
    lowest = problem.z.min()
    if theta[2] < lowest + np.log(1e-4):
        flags.append("E is at its lower bound, zero: these points show no irreducible loss")
    if theta[2] > lowest:
        flags.append("E lies above the lowest loss observed")
    for name, axis, value in zip(("alpha", "beta"), "ND", theta[3:], strict=True):
        if value < 1e-3:
            flags.append(f"{name} = {value:.3g}: the loss does not fall as {axis} grows in these points")
        elif value < FLAT:
            flags.append(f"{name} = {value:.3g}: the {axis} term is all but constant and trades places with E")
        if value > STEEPEST:
            flags.append(f"{name} = {value:.3g}: the {axis} term is seen at the smallest {axis} only")
    if (scatter := 1.4826 * np.median(np.abs(residual))) > STRAY:
        flags.append(f"scatter of {100 * scatter:.1f} %: a sum of two powers does not describe these points; see the "
                     "residuals before quoting an exponent")
    flags += outliers(residual)
    if np.allclose(theta, start, rtol=0, atol=1e-9):
        flags.append("the parameters equal their start: the optimiser did not move")
    if fraction < 0.2:
        flags.append(f"only {100 * fraction:.0f} % of starts reached the optimum")
    together = np.corrcoef(problem.x)[0, 1]
    if abs(together) > 0.99:
        flags.append(f"N and D move together (correlation {together:.3f}): alpha and beta are not told apart")
    if runs < FEWEST_RUNS:
        flags.append(f"no intervals: {runs} runs are too few to resample")
    if runs == FEWEST_RUNS:
        flags.append(f"{runs} runs: in planted sweeps of this size the 95 % interval of beta held the truth in 8 of 10")
    return tuple(flags)


def outliers(residual: Float[np.ndarray, "points"]) -> list[str]:
    """A flag that names the rows far off the law: five of 245 moved an exponent by 0.09 (Besiroglu et al. 2024)."""
    spread = 1.4826 * np.median(np.abs(residual))
    rows = np.flatnonzero(np.abs(residual) > FAR * spread) if spread > 1e-5 else np.array([], int)
    if not rows.size:
        return []
    worst = rows[np.argsort(-np.abs(residual[rows]))]
    listed = ", ".join(f"{row} ({100 * np.expm1(-residual[row]):+.1f} %)" for row in worst[:5])
    return [f"{rows.size} of {len(residual)} points are over {FAR:g} times the scatter off the law, rows {listed}: "
            "fit without them and compare"]
