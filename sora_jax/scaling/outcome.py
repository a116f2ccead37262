"""What every way of fitting returns: one frozen object of flat numbers with intervals, tables, and what is wrong with
it; printable, and JSON both ways."""
import dataclasses
import json
import math
from typing import Any

import numpy as np
from jaxtyping import Float

from sora_jax.scaling.law import LEVEL, Law


@dataclasses.dataclass(frozen=True)
class Outcome:
    """`values` by name (E, A, alpha, ..., `a`: the exponent of N_opt in compute), `intervals` of 95 % for those that
    have one. `objective` is the unscaled sum of Huber terms on log loss, or the sum of squares where `loss` says so;
    `starts_converged` of `starts` ended at it. `optima`, `allocation` and `held_out` are rows of plain numbers."""

    method: str
    form: str
    loss: str
    n: int
    runs: int
    values: dict[str, float]
    intervals: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    objective: float | None = None
    starts: int | None = None
    starts_converged: int | None = None
    rms: float | None = None
    scatter: float | None = None
    optima: tuple[dict[str, float], ...] = ()
    allocation: tuple[dict[str, float], ...] = ()
    held_out: tuple[dict[str, Any], ...] = ()
    covariance: tuple[tuple[float, ...], ...] = ()
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Flat: each value under its name, its interval under name_interval, then the rest. No NaN: null."""
        flat: dict[str, Any] = {}
        for name, value in self.values.items():
            flat[name] = value
            flat[f"{name}_interval"] = self.intervals.get(name)
        rest = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del rest["values"], rest["intervals"]
        rest["names"] = list(self.values)
        if self.starts:
            rest["starts_converged_fraction"] = self.starts_converged / self.starts
        return plain({**flat, **rest})

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "Outcome":
        """Inverse of `to_dict`, also after a trip through JSON; null comes back as NaN."""
        names = saved["names"]
        values = {name: math.nan if saved[name] is None else saved[name] for name in names}
        intervals = {name: tuple(math.nan if edge is None else edge for edge in saved[f"{name}_interval"])
                     for name in names if saved[f"{name}_interval"]}
        kept = {field.name: _frozen(saved[field.name]) for field in dataclasses.fields(cls)
                if field.name not in ("values", "intervals")}
        return cls(values=values, intervals=intervals, **kept)

    def __str__(self) -> str:
        rows = [f"{self.method}: {self.form}", f"{self.n} points of {self.runs} runs; {self.loss}"]
        for name, value in self.values.items():
            low, high = self.intervals.get(name, (math.nan, math.nan))
            spelled = "" if math.isnan(low) else f"{low:.5g} .. {high:.5g}"
            rows.append(f"{name:12}{value:>14.6g}   {spelled}")
        if self.starts:
            rows.append(f"{self.starts_converged} of {self.starts} starts reached the optimum {self.objective:.8g}")
        if self.rms is not None:
            rows.append(f"residuals: rms {100 * self.rms:.3g} % of loss, scatter {100 * (self.scatter or 0):.3g} %")
        for title, table in (("optima", self.optima), ("allocation", self.allocation), ("held out", self.held_out)):
            rows += _table(title, table)
        return "\n".join(rows + [f"! {flag}" for flag in self.flags] + [f"note: {note}" for note in self.notes])


def _table(title: str, rows: tuple[dict[str, Any], ...], most: int = 12) -> list[str]:
    """The scalars of these rows, evenly chosen if there are too many."""
    if not rows:
        return []
    rows = tuple(rows[k] for k in np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)))
    names = [name for name, value in rows[0].items() if isinstance(value, int | float | str)]
    wide = [max(len(name), 12) + 1 for name in names]
    lines = [f"{title}:", "".join(f"{name:>{width}}" for name, width in zip(names, wide, strict=True))]
    for row in rows:
        cells = [f"{row[name]:.5g}" if isinstance(row[name], int | float) else str(row[name]) for name in names]
        lines.append("".join(f"{cell:>{width}}" for cell, width in zip(cells, wide, strict=True)))
    return lines


def plain(value: Any) -> Any:
    """For JSON: tuples become lists, numpy numbers plain ones, NaN and infinity null."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def text(table: dict[str, Any]) -> str:
    """A table as JSON with one field a line, so that a change of the data is read in a diff."""
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in plain(table).items())
    return f"{{\n{lines}\n}}\n"


def _frozen(value: Any) -> Any:
    return tuple(_frozen(inner) for inner in value) if isinstance(value, list) else value


def percentiles(draws: Float[np.ndarray, "draws"]) -> tuple[float, float]:
    """The 95 % interval of resampled values; NaN for fewer than twenty, or where an end of it is not finite."""
    draws = np.where(np.isfinite(draws), draws, np.inf)
    if len(draws) < 20 or np.isinf(draws).mean() > (1 - LEVEL) / 2:
        return math.nan, math.nan
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")
    return float(low), float(high)


def error(predicted: float, low: float, high: float, observed: float, floor: float) -> dict[str, float]:
    """One held-out row: prediction with its interval, what was seen, errors of loss and of what lies above `floor`."""
    return {"predicted": predicted, "low": low, "high": high, "observed": observed,
            "error": predicted / observed - 1,
            "reducible_error": (predicted - observed) / (observed - floor) if observed > floor else math.nan}


def of_law(law: Law, **more: Any) -> Outcome:
    """The outcome of a parametric fit."""
    names = {"E": "E", "A": "A", "alpha": "alpha", "B": "B", "beta": "beta", "a": "n_exponent"}
    return Outcome(
        method="parametric", form=f"{law.unit_loss} = E + A / {law.unit_n}^alpha + B / {law.unit_d}^beta; "
        "a = beta / (alpha + beta), where cost is proportional to N D", loss=f"Huber, delta {law.delta:g}, on log loss",
        n=law.points, runs=law.runs, values={ours: getattr(law, theirs) for ours, theirs in names.items()},
        intervals={ours: law.interval(theirs) for ours, theirs in names.items()} if law.draws else {},
        objective=law.objective, starts=law.starts, starts_converged=law.reached, rms=law.rms, scatter=law.scatter,
        covariance=law.covariance, flags=law.flags, notes=law.notes, **more)
