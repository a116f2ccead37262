"""The best size for each budget, read from runs without a law: Hoffmann's approaches 1 (envelope) and 2 (IsoFLOP).

Enters: columns of compute, size and loss. Leaves: one `Optimum` a budget, with the budgets that were refused and why:
a minimum at the edge of the sizes tried is a bound, not a minimum. The compute column counts, never 6 N D: a size's
data is interpolated or given.
"""
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.interpolate import Akima1DInterpolator

from sora_jax.scaling import straight
from sora_jax.types import InputError

SAME_BUDGET = 0.03  # of compute: runs of one budget differ by this much where steps are whole numbers
GAP = 400  # points between neighbouring sizes: with the 25 of Porian et al. 2024 the grid moves exponents by 0.0005
AROUND = 5  # points of the local parabola
ENVELOPE = 1500  # budgets of the envelope (Hoffmann et al. 2022, approach 1)
FEWEST = 3  # sizes a budget must have


class Optimum(NamedTuple):
    """At `c` FLOPs the size `n` has the lowest loss; `curve` is what was minimised, rows of n and loss."""

    c: float
    n: float
    loss: float
    curve: tuple[tuple[float, float], ...] = ()


class Optima(NamedTuple):
    """The accepted budgets by growing compute, and one line for each that was refused."""

    found: tuple[Optimum, ...]
    refused: tuple[str, ...]

    def sizes(self) -> set[float]:
        """The different best sizes."""
        return {o.n for o in self.found}

    def line(self) -> straight.Line:
        """N_opt = G C^a through the accepted budgets."""
        if len(self.sizes()) < 2:
            raise InputError(f"{len(self.found)} budgets have a minimum inside their sizes, with {len(self.sizes())} "
                             "different best sizes; a law of N_opt needs 2: "
                             + ("; ".join(self.refused[:3]) or "give runs at more budgets"))
        return straight.line(np.array([o.c for o in self.found]), np.array([o.n for o in self.found]))


def budgets(c: Float[np.ndarray, "points"]) -> list[np.ndarray]:
    """Indices of the points of each budget: those within 3 % of its smallest."""
    order, made = np.argsort(c, kind="stable"), []
    for index in order:
        if not made or np.log(c[index] / c[made[-1][0]]) > SAME_BUDGET:
            made.append([])
        made[-1].append(index)
    return [np.array(members) for members in made]


def isoflop(c: Float[np.ndarray, "points"], n: Float[np.ndarray, "points"], loss: Float[np.ndarray, "points"],
            shape: Literal["akima", "parabola"] = "akima") -> Optima:
    """Approach 2. "akima": Akima interpolation of log loss over log N, at its minimum. "parabola": a
    quadratic through the five sizes around the lowest loss; through all sizes it is biased, because the valley is not
    symmetric (Porian et al. 2024, Czech et al. 2026)."""
    found, refused = [], []
    for members in budgets(c):
        budget = float(np.exp(np.log(c[members]).mean()))
        sizes, losses = _lowest(n[members], loss[members])
        if len(sizes) < FEWEST:
            refused.append(f"{budget:.3g} FLOPs: {len(sizes)} sizes, a minimum needs {FEWEST}")
            continue
        made = (_akima if shape == "akima" else _parabola)(sizes, losses)
        if made[0] in (sizes[0], sizes[-1]):
            side, more = ("smallest", "smaller") if made[0] == sizes[0] else ("largest", "larger")
            refused.append(f"{budget:.3g} FLOPs: the {side} size, {made[0]:.3g}, is the best, so the minimum lies "
                           f"beyond; add {more} sizes")
            continue
        found.append(Optimum(budget, *made))
    return Optima(tuple(found), tuple(refused))


def _lowest(n: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sizes in ascending order, each with the lowest of its losses (seeds, learning rates)."""
    sizes = np.unique(n)
    return sizes, np.array([loss[n == size].min() for size in sizes])


def _akima(sizes: np.ndarray, losses: np.ndarray) -> tuple[float, float, tuple]:
    """Where the interpolated curve is lowest; one of the outer sizes if it falls towards an edge."""
    x, y = np.log(sizes), np.log(losses)
    fine = np.concatenate([*(np.linspace(low, high, GAP, endpoint=False) for low, high in zip(x, x[1:], strict=False)),
                           x[-1:]])
    value = Akima1DInterpolator(x, y)(fine)
    best = int(value.argmin())
    at = {0: sizes[0], len(fine) - 1: sizes[-1]}.get(best, np.exp(fine[best]))
    return float(at), float(np.exp(value[best])), _rows(fine[::GAP // 20], value[::GAP // 20])


def _parabola(sizes: np.ndarray, losses: np.ndarray) -> tuple[float, float, tuple]:
    """The vertex of the quadratic around the lowest loss; an outer size if that is the lowest, or the vertex is beyond
    the sizes it was drawn through, or is none."""
    best = int(losses.argmin())
    first = int(np.clip(best - AROUND // 2, 0, max(len(sizes) - AROUND, 0)))
    x, y = np.log(sizes[first:first + AROUND]), np.log(losses[first:first + AROUND])
    shift = x.mean()
    square, slope, rest = np.polyfit(x - shift, y, 2)
    fine = np.linspace(x[0], x[-1], 60) - shift
    curve = _rows(fine + shift, np.polyval([square, slope, rest], fine))
    vertex = -slope / (2 * square) if square > 0 else np.inf
    if best in (0, len(sizes) - 1) or not x[0] < vertex + shift < x[-1]:
        outer = sizes[0] if best < len(sizes) / 2 else sizes[-1]
        return float(outer), float(losses[best]), curve
    return float(np.exp(vertex + shift)), float(np.exp(np.polyval([square, slope, rest], vertex))), curve


def _rows(x: np.ndarray, y: np.ndarray) -> tuple[tuple[float, float], ...]:
    return tuple(zip(np.exp(x).tolist(), np.exp(y).tolist(), strict=True))


def envelope(c: Float[np.ndarray, "points"], n: Float[np.ndarray, "points"],
             loss: Float[np.ndarray, "points"]) -> Optima:
    """Approach 1: at each of 1,500 budgets the size of lowest loss, its curve interpolated in logs between its points.
    Budgets reached by fewer than three sizes, or whose best is the smallest or largest of them, are refused."""
    sizes = np.unique(n)
    grid = np.geomspace(c.min(), c.max(), ENVELOPE)
    table = np.full((len(sizes), ENVELOPE), np.nan)
    for row, size in zip(table, sizes, strict=True):
        spent, losses = _lowest(c[n == size], loss[n == size])
        if len(spent) > 1:
            row[:] = np.interp(np.log(grid), np.log(spent), np.log(losses), left=np.nan, right=np.nan)
    found, few, edge = [], 0, 0
    for budget, column in zip(grid, table.T, strict=True):
        there = np.flatnonzero(np.isfinite(column))
        if len(there) < FEWEST:
            few += 1
            continue
        best = there[int(column[there].argmin())]
        if best in (there[0], there[-1]):
            edge += 1
            continue
        found.append(Optimum(float(budget), float(sizes[best]), float(np.exp(column[best]))))
    refused = [f"{count} of {ENVELOPE} budgets: {why}" for count, why in (
        (few, f"fewer than {FEWEST} sizes reach them"), (edge, "the best size is the smallest or largest of those that "
                                                                "reach them")) if count]
    return Optima(tuple(found), tuple(refused))
