"""Does the motion scale like the loss? The velocity error of every annealed point against its training FLOPs, for
speeds and sizes that were trained and for those that were not (Kang et al. 2024, arXiv 2411.02385, section 3).

Enters: records whose metrics hold `velocity_*`. Leaves: a power of compute for each, with intervals over runs, the
power of the ratio of out to in, and a picture.
"""
import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sora_jax.scaling import outcome, straight
from sora_jax.scaling.figure import INK, STYLE, decimal, save
from sora_jax.scaling.records import groups
from sora_jax.types import InputError

SPLITS = {"id": "trained speeds and sizes", "ood_speed": "speeds not trained", "ood_radius": "sizes not trained"}
SHADES = {"id": "#0072B2", "ood_speed": "#D55E00", "ood_radius": "#CC79A7"}
MARKS = {"id": "o", "ood_speed": "^", "ood_radius": "s"}


@dataclasses.dataclass(frozen=True)
class Power:
    """y = coefficient * C ^ exponent over `points` points, and the exponent's 95 % interval over resampled runs."""

    name: str
    exponent: float
    coefficient: float
    low: float
    high: float
    points: int

    def __str__(self) -> str:
        interval = "no interval" if np.isnan(self.low) else f"{self.low:.3f} to {self.high:.3f}"
        return f"{self.name}: C^{self.exponent:.3f} ({interval}), {self.points} points"


def carries(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The annealed records that hold a velocity error of every split."""
    return [r for r in records if r["annealed"] and all(f"velocity_{name}" in r["metrics"] for name in SPLITS)]


def powers(records: Sequence[Mapping[str, Any]], bootstrap: int = 400, seed: int = 0) -> tuple[Power, ...]:
    """One for each split, and one for each ratio of an untrained split to the trained one. Raises InputError for fewer
    than three points."""
    rows = carries(records)
    if len(rows) < 3:
        raise InputError(f"{len(rows)} records hold velocity errors; a law of motion needs 3: set eval.velocity")
    roots = groups(list(rows))
    runs, c = np.array([roots[r["id"]] for r in rows]), np.array([r["flops"] for r in rows], np.float64)
    columns = {name: np.array([r["metrics"][f"velocity_{name}"] for r in rows]) for name in SPLITS}
    wanted = columns | {f"{name} / id": columns[name] / columns["id"] for name in SPLITS if name != "id"}
    rng, names = np.random.default_rng(seed), np.unique(runs)
    members = [np.flatnonzero(runs == name) for name in names]
    draws = [np.concatenate([members[k] for k in rng.integers(len(names), size=len(names))]) for _ in range(bootstrap)]
    made = []
    for name, y in wanted.items():
        line = straight.line(c, y)
        again = [straight.line(c[some], y[some]).exponent for some in draws if len(np.unique(c[some])) > 1]
        made.append(Power(name, line.exponent, line.coefficient, *outcome.percentiles(np.array(again)), len(rows)))
    return tuple(made)


def draw(records: Sequence[Mapping[str, Any]], found: Sequence[Power], path: str | os.PathLike,
         floors: Mapping[str, float] | None = None) -> None:
    """Errors against FLOPs with their powers, the ratios, and errors against loss. `floors`: the error of true clips
    that passed through the autoencoder, by split."""
    rows, powers_by = carries(records), {power.name: power for power in found}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12.5, 4.2), layout="constrained")
        errors, ratios, losses = figure.subplots(1, 3)
        _against_compute(errors, rows, powers_by, floors or {})
        _ratios(ratios, rows, powers_by)
        for name in SPLITS:
            losses.plot([r["val_loss"] for r in rows], [r["metrics"][f"velocity_{name}"] for r in rows], MARKS[name],
                        color=SHADES[name], markersize=4)
        losses.set(xscale="log", yscale="log", xlabel="validation loss", ylabel="velocity error, heights/s",
                   title="motion against loss")
        decimal(losses, "xy")
        save(figure, path)


def _against_compute(axes: Axes, rows: Sequence[Mapping[str, Any]], found: Mapping[str, Power],
                     floors: Mapping[str, float]) -> None:
    c = np.array([r["flops"] for r in rows], np.float64)
    spread = np.geomspace(c.min() / 1.5, c.max() * 1.5, 40)
    for name, said in SPLITS.items():
        error = [r["metrics"][f"velocity_{name}"] for r in rows]
        width = [r["metrics"].get(f"velocity_{name}_se", 0.0) for r in rows]
        power = found[name]
        axes.errorbar(c, error, yerr=width, fmt=MARKS[name], color=SHADES[name], markersize=4, linewidth=0.7,
                      label=f"{said}: C^{power.exponent:.2f}")
        axes.plot(spread, power.coefficient * spread**power.exponent, color=SHADES[name], linewidth=1)
        if name in floors:
            axes.axhline(floors[name], color=SHADES[name], linewidth=0.8, linestyle=":")
    axes.set(xscale="log", yscale="log", xlabel="training FLOPs", ylabel="velocity error, heights/s",
             title="velocity error after five given frames" + ("; dotted: autoencoder" if floors else ""))
    decimal(axes)
    axes.legend()


def _ratios(axes: Axes, rows: Sequence[Mapping[str, Any]], found: Mapping[str, Power]) -> None:
    c = np.array([r["flops"] for r in rows], np.float64)
    spread = np.geomspace(c.min() / 1.5, c.max() * 1.5, 40)
    for name in SPLITS:
        if name != "id":
            power = found[f"{name} / id"]
            interval = "" if np.isnan(power.low) else f" ({power.low:.2f} to {power.high:.2f})"
            axes.plot(c, [r["metrics"][f"velocity_{name}"] / r["metrics"]["velocity_id"] for r in rows], MARKS[name],
                      color=SHADES[name], markersize=4, label=f"{SPLITS[name]}: C^{power.exponent:.2f}{interval}")
            axes.plot(spread, power.coefficient * spread**power.exponent, color=SHADES[name], linewidth=1)
    axes.axhline(1, color=INK, linewidth=0.8)
    axes.set(xscale="log", xlabel="training FLOPs", ylabel="error over that of trained", title="untrained over trained")
    axes.margins(y=0.2)
    axes.legend()
