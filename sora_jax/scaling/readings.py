"""Two recipes for a budget, and which of them a sweep supports: train a large model and stop early (N_opt ~ C^0.73,
Kaplan et al. 2020, arXiv 2001.08361, section 6.1), or grow size and data together (both ~ C^0.5, Hoffmann et al. 2022,
arXiv 2203.15556, table 2).

Enters: a table with FLOPs and a law of its points. Leaves: the exponent of N_opt by every method with its interval,
what each recipe says, and whether its exponent lies inside.
"""
import dataclasses
from typing import Any

import numpy as np

from sora_jax.scaling import methods, outcome
from sora_jax.scaling.law import Law, cost_curve
from sora_jax.scaling.methods import Table
from sora_jax.types import InputError

RECIPES = {"large, stopped early (Kaplan)": 0.73, "grow both (Hoffmann)": 0.5}
FARTHER = 100.0  # times the largest budget: how far the recipes are followed


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The exponent `a` of N_opt ~ C^a by one method, with its 95 % interval (NaN: none)."""

    method: str
    a: float
    low: float
    high: float

    def allows(self, a: float) -> bool | None:
        """Whether an exponent lies inside the interval; None if there is none."""
        return None if np.isnan(self.low) else self.low <= a <= self.high


@dataclasses.dataclass(frozen=True)
class Readings:
    """The estimates, the budgets they were read over, and the price of each recipe: by how much more compute it needs
    than the law's best size to reach the same loss, `FARTHER` times beyond the largest budget."""

    estimates: tuple[Estimate, ...]
    budgets: tuple[float, float]
    price: dict[str, float]
    refused: tuple[str, ...] = ()

    def verdict(self) -> str:
        """A paragraph: what is inside which interval, and nothing more."""
        lines = [f"N_opt ~ C^a over {self.budgets[0]:.2g} to {self.budgets[1]:.2g} FLOPs:"]
        for e in self.estimates:
            interval = "no interval" if np.isnan(e.low) else f"{e.low:.2f} to {e.high:.2f}"
            lines.append(f"  {e.method}: a = {e.a:.3f} ({interval})")
        for name, a in RECIPES.items():
            asked = [e for e in self.estimates if e.allows(a) is not None]
            inside = [e.method for e in asked if e.allows(a)]
            said = f"inside the intervals of {', '.join(inside)}" if inside else (
                "outside every interval" if asked else "no interval to judge it by")
            price = self.price[name]
            cost = f"costs {100 * price:+.0f} % compute" if np.isfinite(price) else "never reaches the same loss"
            lines.append(f"  {name}, a = {a}: {said}; followed {FARTHER:g} times further it {cost}")
        return "\n".join([*lines, *(f"  {line}" for line in self.refused)])

    def to_dict(self) -> dict[str, Any]:
        """For JSON; NaN and infinity become null."""
        return outcome.plain({**dataclasses.asdict(self), "recipes": RECIPES, "farther": FARTHER,
                              "verdict": self.verdict()})


def read(table: Table, law: Law, bootstrap: int = 400, seed: int = 0) -> Readings:
    """The readings of a sweep. Methods that its points cannot carry are named in `refused`."""
    c = table.compute("readings")
    estimates, refused = [parametric(table, law)], []
    for name in ("isoflop", "envelope", "kaplan"):
        try:
            made, _ = methods.apply(table, name, bootstrap, seed)
        except InputError as error:
            refused.append(f"{name}: {error}")
            continue
        low, high = made.intervals.get("a", (np.nan, np.nan))
        estimates.append(Estimate(name, made.values["a"], low, high))
    price = {name: followed(table, law, a) for name, a in RECIPES.items()}
    return Readings(tuple(estimates), (float(c.min()), float(c.max())), price, tuple(refused))


def anchor(table: Table, law: Law) -> tuple[float, float]:
    """(C, N) that every recipe starts from: the law's best size at the geometric middle of the budgets."""
    c = table.compute("readings")
    middle = float(np.exp(0.5 * (np.log(c.min()) + np.log(c.max()))))
    return middle, law.optimal(middle, cost(table)).n


def cost(table: Table):
    """FLOPs per unit of data as a function of N, between and beyond the sizes of the table."""
    return cost_curve(table.points.n, table.compute("readings") / table.points.d)


def parametric(table: Table, law: Law) -> Estimate:
    """The slope of the law's own best size between the smallest and the largest budget, at what sizes really cost:
    beta / (alpha + beta) holds only where cost is proportional to N D."""
    c = table.compute("readings")
    ends, per = (float(c.min()), float(c.max())), cost(table)
    slopes = np.diff([law.sizes(end, per) for end in ends], axis=0)[0] / np.log(ends[1] / ends[0])
    return Estimate("parametric", float(slopes[0]), *outcome.percentiles(slopes[1:]))


def followed(table: Table, law: Law, a: float) -> float:
    """Extra compute, as a share, that N = N_0 (C / C_0)^a needs at `FARTHER` times the largest budget for the loss of
    the best size there; infinite if that size cannot reach it."""
    start, size = anchor(table, law)
    per, end = cost(table), float(table.compute("readings").max()) * FARTHER
    return methods.price(law, size * (end / start) ** a, law.optimal(end, per).loss, per) / end - 1
