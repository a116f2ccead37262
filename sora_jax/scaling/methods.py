"""Every accepted way to fit a table of runs, by name: columns in, an `Outcome` out.

parametric: Hoffmann's approach 3 · envelope, isoflop: approaches 1 and 2 · kaplan: laws of one variable (Kaplan et al.
2020) · three-term: E + A N^-alpha + B D^-beta + G C^-gamma · reducible: one exponent for N and D (Gadre et al. 2024).
Intervals resample runs, never rows.
"""
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from sora_jax.scaling import fit, optima, outcome, powers, shared, straight
from sora_jax.scaling.law import Law, cost_curve
from sora_jax.scaling.outcome import Outcome
from sora_jax.scaling.points import Points
from sora_jax.types import InputError

NAMES = ("parametric", "isoflop", "envelope", "kaplan", "three-term", "reducible")


@dataclasses.dataclass(frozen=True)
class Table:
    """Points, their FLOPs if known, and the rows that no fit may see but every law must predict."""

    points: Points
    c: Float[np.ndarray, "points"] | None = None
    held: Points | None = None
    held_c: Float[np.ndarray, "held"] | None = None

    def compute(self, method: str) -> Float[np.ndarray, "points"]:
        """FLOPs of every point. Raises InputError if there are none: 6 N D is wrong where models are small."""
        if self.c is None:
            raise InputError(f"method {method} compares runs at equal cost: name the column of training FLOPs with "
                             "--compute; 6 N D is not assumed, below 20M parameters it is up to 2.7 times off")
        return self.c


def apply(table: Table, method: str, bootstrap: int = 400, seed: int = 0) -> tuple[Outcome, Law | None]:
    """The outcome of a method of `NAMES`, and the law behind it where it is a parametric one."""
    if method not in NAMES:
        raise InputError(f"no method {method!r}; there are {', '.join(NAMES)}")
    if method == "parametric":
        return parametric(table, bootstrap, seed)
    makers: dict[str, Callable[[Table, int, int], Outcome]] = {
        "isoflop": isoflop, "envelope": envelope, "kaplan": kaplan, "three-term": three_term, "reducible": reducible}
    return makers[method](table, bootstrap, seed), None


def parametric(table: Table, bootstrap: int, seed: int) -> tuple[Outcome, Law]:
    """Approach 3, with what it says of held-out rows and of budgets."""
    law = fit.fit(table.points, bootstrap=bootstrap, seed=seed)
    held = []
    for n, d, seen in _rows(table.held):
        value, low, high = (float(part) for part in law.predict(n, d, new_run=True))
        held.append({"n": n, "d": d, **outcome.error(value, low, high, seen, law.E)})
    return outcome.of_law(law, held_out=tuple(held), allocation=allocation(law, table)), law


def _rows(points: Points | None):
    return [] if points is None else zip(points.n.tolist(), points.d.tolist(), points.loss.tolist(), strict=True)


def allocation(law: Law, table: Table) -> tuple[dict[str, float], ...]:
    """For budgets from a tenth of the largest seen to a hundred times it: the best size, its data and loss, and the
    price of a size half or twice as large: by how much more compute it reaches the same loss. Costs per unit of data
    are those of the sizes seen, carried on along the slope of the outer two."""
    if table.c is None or len(np.unique(table.points.n)) < 2:
        return ()
    cost, rows = cost_curve(table.points.n, table.c / table.points.d), []
    for budget in float(table.c.max()) * np.array([0.1, 1.0, 10.0, 100.0]):
        best = law.optimal(budget, cost)
        row = {"c": budget, "n": best.n, "d": best.d, "loss": best.loss, "n_low": best.n_interval[0],
               "n_high": best.n_interval[1], "at_edge": float(best.at_edge)}
        for name, factor in (("price_of_half", 0.5), ("price_of_double", 2.0)):
            row[name] = np.nan if best.at_edge else price(law, best.n * factor, best.loss, cost) / budget - 1
        rows.append(row)
    return tuple(rows)


def price(law: Law, n: float, loss: float, cost: Callable[[float], float]) -> float:
    """FLOPs with which size n reaches `loss`; infinite if it cannot."""
    rest = loss - law.E - law.A / n**law.alpha
    if rest <= 0 or law.beta <= 0:
        return np.inf
    with np.errstate(over="ignore"):
        return float(cost(n) * np.exp((np.log(law.B) - np.log(rest)) / law.beta))


def isoflop(table: Table, bootstrap: int, seed: int) -> Outcome:
    """Approach 2, by Akima interpolation; the parabola's exponent beside it."""
    c = table.compute("isoflop")
    made = _frontier(table, "isoflop", lambda rows: optima.isoflop(c[rows], table.points.n[rows],
                                                                   table.points.loss[rows]), bootstrap, seed)
    try:
        local = optima.isoflop(c, table.points.n, table.points.loss, "parabola").line().exponent
    except InputError:
        local = float("nan")
    return dataclasses.replace(made, values={**made.values, "a_parabola": local})


def envelope(table: Table, bootstrap: int, seed: int) -> Outcome:
    """Approach 1."""
    c = table.compute("envelope")
    return _frontier(table, "envelope", lambda rows: optima.envelope(c[rows], table.points.n[rows],
                                                                     table.points.loss[rows]), bootstrap, seed)


def _frontier(table: Table, method: str, of: Callable[[np.ndarray], optima.Optima], bootstrap: int,
              seed: int) -> Outcome:
    points, runs = table.points, _runs(table.points)
    everything = np.arange(len(points.n))
    best = of(everything)
    line = best.line()
    data = _data_line(table, best)
    draws = []
    for rows in _resampled_rows(runs, bootstrap, seed):
        again = of(rows)
        if len(again.sizes()) >= 2:
            draws.append((again.line().exponent, again.line().coefficient, _data_line(table, again).exponent))
    spread = np.array(draws).reshape(-1, 3).T
    values = {"a": line.exponent, "G": line.coefficient, "b": data.exponent}
    return Outcome(
        method=method, form="N_opt = G C^a, D_opt ~ C^b", loss="least squares on log N_opt", n=len(points.n),
        runs=len(set(runs)), values={**values, "rms_log_n": line.rms},
        intervals={name: outcome.percentiles(row) for name, row in zip(values, spread, strict=True)},
        optima=tuple({"c": o.c, "n": o.n, "loss": o.loss, "curve": o.curve} for o in best.found),
        flags=(*best.refused, *_blind(table)), notes=points.notes)


def _data_line(table: Table, best: optima.Optima) -> straight.Line:
    """How D_opt grows: compute over the cost per unit of data of the best size, interpolated over sizes."""
    cost = cost_curve(table.points.n, table.c / table.points.d)
    c = np.array([o.c for o in best.found])
    return straight.line(c, c / np.array([cost(o.n) for o in best.found]))


def _runs(points: Points) -> tuple[str, ...]:
    if len(set(points.annealed.tolist())) > 1:
        raise InputError("annealed and un-annealed points never enter one fit; choose one kind")
    return points.group


def _resampled_rows(runs: tuple[str, ...], count: int, seed: int) -> list[np.ndarray]:
    rng, names = np.random.default_rng(seed), np.unique(runs)
    if len(names) < fit.FEWEST_RUNS:
        return []
    members = [np.flatnonzero(np.array(runs) == name) for name in names]
    return [np.concatenate([members[k] for k in rng.integers(len(names), size=len(names))]) for _ in range(count)]


def _blind(table: Table) -> tuple[str, ...]:
    """What a method without a surface says of held-out rows."""
    return () if table.held is None else (f"{len(table.held.n)} held-out rows are not predicted: this method has no "
                                          "loss at a given N and D",)


def kaplan(table: Table, bootstrap: int, seed: int) -> Outcome:
    """L = (X_c / X)^alpha_X for X = N, D and, with FLOPs, C, each along the points that no smaller X beats; and
    N_opt(C) along the frontier of compute."""
    points, runs = table.points, _runs(table.points)
    columns = {"N": points.n, "D": points.d} | ({"C": table.c} if table.c is not None else {})

    def laws(rows: np.ndarray) -> dict[str, float]:
        values = {}
        for name, x in columns.items():
            kept = rows[straight.frontier(x[rows], points.loss[rows])]
            line = straight.line(x[kept], points.loss[kept])
            with np.errstate(over="ignore", divide="ignore"):
                scale = np.exp(-np.log(line.coefficient) / np.float64(line.exponent))
            values |= {f"alpha_{name}": -line.exponent, f"{name}_c": float(scale)}
            if name == "C":
                values["a"] = straight.line(x[kept], points.n[kept]).exponent
        return values

    values, draws = laws(np.arange(len(points.n))), []
    for rows in _resampled_rows(runs, bootstrap, seed):
        try:
            draws.append(laws(rows))
        except InputError:
            continue
    spread = {name: np.array([draw[name] for draw in draws]) for name in values}
    flags = _blind(table) if "C" in columns else (
        *_blind(table), "no FLOPs were given, so no law of compute and no N_opt")
    return Outcome(
        method="kaplan", form="loss = (X_c / X)^alpha_X along the points that no smaller X beats; N_opt ~ C^a",
        loss="least squares on log loss, no floor: a straight line in logs ends where the floor shows",
        n=len(points.n), runs=len(set(runs)), values=values, flags=flags, notes=points.notes,
        intervals={name: outcome.percentiles(row) for name, row in spread.items()})


def three_term(table: Table, bootstrap: int, seed: int) -> Outcome:
    """E + A N^-alpha + B D^-beta + G C^-gamma by the solver of the parametric law. Where C is a product of N and D the
    third term is carried by curvature alone: read its interval, not its value."""
    points, c = table.points, table.compute("three-term")
    runs = fit.check(points)
    logs = np.log(np.stack([points.n, points.d, c]))
    center = logs.mean(axis=1)
    problem = powers.Problem(logs - center[:, None], np.log(points.loss), np.ones(len(c)))
    if len(c) < 8:
        raise InputError(f"{len(c)} points cannot determine seven parameters; the three-term form needs at least 8")
    starts = np.vstack([powers.projected_start(problem), powers.grid_starts(problem)])
    ends, thetas = powers.descend(problem, starts)
    best, theta = powers.polish(problem, thetas[int(ends.argmin())])
    draws = fit.resampled(problem, theta, runs, bootstrap, seed)
    values = _three(theta, center)
    spread = {name: np.array([_three(draw, center)[name] for draw in draws]) for name in values}
    residual, share = powers.shares(theta, problem)
    flags = [f"the {name} term vanished: these points do not ask for it"
             for name, part in zip("NDC", share[:3], strict=True) if part.max() < 1e-3]
    flags += [f"the {name} term is all but constant (exponent {power:.2g}): it trades places with E"
              for name, power in zip("NDC", theta[4:], strict=True) if abs(power) < fit.FLAT]
    square = np.corrcoef(problem.x)
    if np.linalg.eigvalsh(square)[0] < 1e-4:
        flags.append("log C is a sum of log N and log D in these points: the terms are told apart by curvature alone")
    return Outcome(
        method="three-term", form="loss = E + A / N^alpha + B / D^beta + G / C^gamma",
        loss=f"Huber, delta {problem.delta:g}, on log loss", n=len(c), runs=len(set(runs)), values=values,
        intervals={name: outcome.percentiles(row) for name, row in spread.items()},
        objective=best * problem.delta**2, starts=len(ends), starts_converged=fit.arrived(ends, best, problem),
        rms=float(np.sqrt(np.mean(residual**2))), scatter=float(1.4826 * np.median(np.abs(residual))),
        flags=tuple(flags), notes=points.notes, held_out=_three_held(table, theta, draws, center, values["E"]))


def _three(theta: np.ndarray, center: np.ndarray) -> dict[str, float]:
    with np.errstate(over="ignore"):  # a resample may have lost a term, whose coefficient then means nothing
        a, b, g = np.exp(theta[:3] + theta[4:] * center)
    alpha, beta, gamma = theta[4:]
    return {"E": float(np.exp(theta[3])), "A": float(a), "alpha": float(alpha), "B": float(b), "beta": float(beta),
            "G": float(g), "gamma": float(gamma)}


def _three_held(table: Table, theta: np.ndarray, draws: np.ndarray, center: np.ndarray,
                floor: float) -> tuple[dict[str, Any], ...]:
    if table.held is None or table.held_c is None:
        return ()
    x = np.log(np.stack([table.held.n, table.held.d, table.held_c])) - center[:, None]
    said = np.exp(powers.log_loss(theta[None], x)[0])
    again = np.exp(powers.log_loss(draws, x)).T if len(draws) else np.empty((len(said), 0))
    return tuple({"n": n, "d": d, **outcome.error(float(value), *outcome.percentiles(row), seen, floor)}
                 for value, row, (n, d, seen) in zip(said, again, _rows(table.held), strict=True))


def reducible(table: Table, bootstrap: int, seed: int) -> Outcome:
    """E + A N^-eta + B D^-eta: what is left to gain falls as one power along every ratio D / N, so a law of small runs
    reaches over-trained ones. Least squares on the loss; for an exponent the rest is linear. Gadre et al. 2024 write
    (a M^h + b M^-h) C^-h with M = D / N, h = eta / 2, C = 6 N D."""
    points, runs = table.points, _runs(table.points)
    distinct = min(len(np.unique(points.n)), len(np.unique(points.d)))
    if len(points.n) < 4 or distinct < 2:
        raise InputError(f"{len(points.n)} points with {distinct} distinct sizes or data cannot determine the four "
                         "parameters of a shared exponent")
    theta, squares = shared.solve(points.n, points.d, points.loss)
    draws = np.array([shared.solve(points.n[rows], points.d[rows], points.loss[rows])[0]
                      for rows in _resampled_rows(runs, bootstrap, seed)
                      if len(np.unique(np.stack([points.n[rows], points.d[rows]]), axis=1).T) >= 4]).reshape(-1, 4)
    names = ("E", "A", "B", "eta")
    values = dict(zip(names, theta.tolist(), strict=True)) | {"alpha": theta[3], "beta": theta[3], "a": 0.5}
    intervals = {name: outcome.percentiles(column) for name, column in zip(names, draws.T, strict=True)}
    intervals |= {name: intervals["eta"] for name in ("alpha", "beta")}
    residual = shared.predict(theta, points.n, points.d) / points.loss - 1
    flags = [f"{name} = {value:.3g} is not positive: these points are not of this form"
             for name, value in zip(names[:3], theta[:3], strict=True) if value <= 0]
    if not shared.STEPS[0] * 1.05 < theta[3] < shared.STEPS[1] * 0.95:
        flags.append(f"eta = {theta[3]:.3g} is where the search ended: no exponent fits these points")
    if (scatter := 1.4826 * np.median(np.abs(residual))) > fit.STRAY:
        flags.append(f"scatter of {100 * scatter:.1f} %: one exponent does not describe these points")
    held = []
    for n, d, seen in _rows(table.held):
        said = np.array([float(shared.predict(row, n, d)) for row in draws])
        value = float(shared.predict(theta, n, d))
        held.append({"n": n, "d": d, **outcome.error(value, *outcome.percentiles(said), seen, theta[0])})
    return Outcome(
        method="reducible", form="loss = E + A / N^eta + B / D^eta; a = 1/2 by its form", loss="least squares on loss",
        n=len(points.n), runs=len(set(runs)), values=values, intervals=intervals, objective=squares,
        rms=float(np.sqrt(np.mean(residual**2))), scatter=float(1.4826 * np.median(np.abs(residual))),
        held_out=tuple(held), flags=tuple(flags), notes=points.notes)
