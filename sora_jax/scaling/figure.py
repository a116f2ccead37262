"""Pictures of a sweep from its records, and of one run from its metrics: SVG or PNG, the same bytes every time.

`curve`: validation loss against training FLOPs, one line per size, the fitted law, the law's best size for each budget,
a held-out run against its prediction; beside it loss against N and against D with the other term removed, residuals,
and training curves where the records hold them (`metrics.curve`: rows of clips, loss).
"""
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from sora_jax.scaling.law import Law, cost_curve
from sora_jax.scaling.points import Values
from sora_jax.scaling.records import repeats
from sora_jax.types import InputError

STYLE = {"svg.hashsalt": "sora_jax", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
         "axes.grid": True, "grid.alpha": 0.25, "grid.linewidth": 0.5, "legend.frameon": False, "legend.fontsize": 8,
         "axes.titlesize": 9, "axes.titlelocation": "left", "savefig.dpi": 160}
TERMS = {"l1": "L1", "l2": "L2", "perceptual": "perceptual", "temporal": "temporal", "kl": "KL",
         "adaptive": "adaptive weight"}
CRITIC = {"critic_real": "hinge on clips", "critic_fake": "on reconstructions", "adversarial": "adversarial",
          "critic_accuracy": "accuracy"}
INK, TRUTH = "#222222", "#D55E00"  # Okabe and Ito 2008
PANELS = {  # by whether there is a law, and whether records hold training curves
    (True, True): [["main", "main", "n", "d"], ["main", "main", "rest", "time"]],
    (True, False): [["main", "main", "n", "d"], ["main", "main", "rest", "rest"]],
    (False, True): [["main", "time"]], (False, False): [["main"]]}
MARKERS = "osD^vP*Xhp"
UNITS = {"n_core": "N, matmul parameters of the blocks", "n_total": "N, all parameters", "clips": "D, clips",
         "tokens": "D, tokens", "latent_elements": "D, latent elements", "flops": "training FLOPs",
         "val_loss": "validation loss", "val_loss_raw": "validation loss, raw weights"}


def curve(records: list[dict[str, Any]], law: Law | None, path: str | os.PathLike, *,
          held: Sequence[dict[str, Any]] = (), left: Sequence[dict[str, Any]] = ()) -> None:
    """Draws the sweep to `path` (its ending chooses SVG or PNG). `held` are records that the law has not seen and must
    predict, `left` are records that it leaves out."""
    records, held, left = ([r for r in rows if r["annealed"]] for rows in (records, held, left))
    if not records:
        raise InputError("no annealed record to draw")
    everything = sorted([*records, *held, *left], key=lambda r: (r["n_core"], r["clips"]))
    look = _looks(everything)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12.5, 6.6), layout="constrained")
        curves = any(r["metrics"].get("curve") for r in everything)
        panels = figure.subplot_mosaic(PANELS[law is not None, curves])
        _main(panels["main"], everything, look, law, held, left)
        if law is not None:
            _one_term(panels["n"], records, look, law, 0)
            _one_term(panels["d"], records, look, law, 1)
            _residuals(panels["rest"], [r for r in everything if r not in left], look, law, held)
        if curves:
            _curves(panels["time"], everything, look)
        save(figure, path)


def training_curve(rows: Sequence[Mapping[str, Any]], path: str | os.PathLike, title: str = "") -> None:
    """Draws one run from its metric rows: loss (faint, and smoothed), validation loss, the terms of an autoencoder's
    loss, what its critic says, gradient norm. A row counts its progress in `clips` or `step`; rows and fields may be
    missing."""
    unit = next((name for name in ("clips", "step") if any(name in row for row in rows)), None)
    if unit is None:
        raise InputError(f"nothing to draw in {path}: no metric row has 'clips' or 'step'")
    with mpl.rc_context(STYLE):
        panels = [names for names in (TERMS, CRITIC) if any(name in row for row in rows for name in names)]
        figure = Figure(figsize=(7, 4.6 + 1.6 * len(panels)), layout="constrained")
        top, *middle, bottom = figure.subplots(2 + len(panels), 1, sharex=True,
                                               height_ratios=(3, *(1.6 for _ in panels), 1))
        x, loss = _column(rows, unit, "loss")
        top.plot(x, loss, color="#0072B2", alpha=0.25, linewidth=0.8)
        top.plot(x, _smooth(loss), color="#0072B2", linewidth=1.5, label="training loss, smoothed")
        top.plot(*_column(rows, unit, "val_loss"), "o-", color=TRUTH, markersize=3.5, label="validation loss")
        top.set(ylabel="loss", yscale="log", title=title)
        decimal(top)
        top.legend()
        for axes, names in zip(middle, panels, strict=True):
            _terms(axes, rows, unit, names)
        bottom.plot(*_column(rows, unit, "grad_norm"), color=INK, linewidth=0.8)
        bottom.set(xlabel={"clips": "clips seen", "step": "updates"}[unit], ylabel="gradient norm", yscale="log")
        save(figure, path)


def _terms(axes: Axes, rows: Sequence[Mapping[str, Any]], unit: str, names: Mapping[str, str]) -> None:
    """One line for each term that the rows have, none of them weighed; logarithmic where no term can be negative."""
    for name, label in names.items():
        x, y = _column(rows, unit, name)
        if len(y):
            axes.plot(x, _smooth(y), linewidth=1.0, label=label)
    axes.set(ylabel="terms, smoothed", yscale="linear" if names is CRITIC else "log")
    axes.legend(ncols=len(names), fontsize=6.5)


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Writes the figure with nothing in it that depends on when or where."""
    path = Path(path)
    if path.suffix not in (".svg", ".png"):
        raise InputError(f"{path}: a figure is .svg or .png")
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {"Software": None})


def _looks(records: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Colour, marker and name of every size: colours run with size and are read in grey too."""
    sizes = sorted({r["n_core"] for r in records})
    names = {r["n_core"]: r["model"] for r in records}
    shades = mpl.colormaps["viridis"](np.linspace(0.0, 0.88, len(sizes)))
    return {n: {"color": shade, "marker": MARKERS[k % len(MARKERS)], "name": names[n]}
            for k, (n, shade) in enumerate(zip(sizes, shades, strict=True))}


def _main(axes: Axes, records: list[dict[str, Any]], look: dict, law: Law | None, held: Sequence[dict],
          left: Sequence[dict]) -> None:
    lost, out = {r["id"] for r in held}, {r["id"] for r in left}
    name = law.unit_loss if law else "val_loss"
    for n, style in look.items():
        rows = [r for r in records if r["n_core"] == n]
        x, y = [r["flops"] for r in rows], [r[name] for r in rows]
        seen, unfitted = all(r["id"] not in lost for r in rows), any(r["id"] in out for r in rows)
        fate = ", left out" if unfitted else "" if seen else ", held out"
        axes.errorbar(x, y, yerr=[r["val_loss_se"] or 0 for r in rows], fmt=style["marker"], color=style["color"],
                      markersize=5 if seen else 7, markerfacecolor=style["color"] if seen else "white",
                      markeredgecolor=style["color"] if seen else INK, linestyle="none", linewidth=1,
                      zorder=3 if seen else 6, label=f"{style['name']}, {_count(n)}{fate}")
        if law is None or unfitted:
            axes.plot(x, y, color=style["color"], linewidth=1)
        else:
            unit_n, cost = rows[0][law.unit_n], rows[0]["flops"] / rows[0][law.unit_d]
            spread = np.geomspace(min(x) / 2, max(x) * 2, 80)
            axes.plot(spread, law.predict(unit_n, spread / cost).loss, color=style["color"], linewidth=1,
                      linestyle="-" if seen else "--")
    if law is not None:
        _envelope(axes, [r for r in records if r["id"] not in out], law)
        _prediction(axes, held, law)
    axes.set(xscale="log", yscale="log", xlabel=UNITS["flops"], ylabel=UNITS.get(name, name), title=_title(law))
    decimal(axes)
    axes.legend(loc="upper right")


def _envelope(axes: Axes, records: list[dict[str, Any]], law: Law) -> None:
    """The least loss of the law at every budget, over sizes whose cost per unit of data is interpolated."""
    cost = cost_curve([r[law.unit_n] for r in records], [r["flops"] / r[law.unit_d] for r in records])
    budgets = np.geomspace(min(r["flops"] for r in records), 2 * max(r["flops"] for r in records), 24)
    best = [law.optimal(float(budget), cost) for budget in budgets]
    band = law.predict([b.n for b in best], [b.d for b in best])
    inside = np.array([not b.at_edge for b in best])
    axes.plot(budgets[inside], band.loss[inside], color=INK, linewidth=1.8, linestyle=(0, (4, 2)), zorder=1,
              label="law, best size for the budget")
    if law.draws:
        axes.fill_between(budgets[inside], band.low[inside], band.high[inside], color=INK, alpha=0.12, linewidth=0)


def _prediction(axes: Axes, held: Sequence[dict[str, Any]], law: Law) -> None:
    """The largest held-out point, or the mean of its seeds: the interval that the law gave beside what was measured."""
    if not held:
        return
    top = max(held, key=lambda r: r["flops"])
    cell = next(cell for cell in repeats(held) if top in cell)
    where, observed = (top[law.unit_n], top[law.unit_d]), np.mean([r[law.unit_loss] for r in cell])
    of = f",\nof the mean of {len(cell)} seeds" if len(cell) > 1 else ""
    loss, low, high = (float(value) for value in law.predict(*where, new_run=len(cell)))
    error, rest = 100 * (loss / observed - 1), 100 * float(law.reducible_error(*where, observed))
    width = [[loss - low], [high - loss]] if law.draws else None
    interval = ", 95 %" if law.draws else ""
    axes.errorbar([top["flops"]], [loss], yerr=width, fmt="_", color=TRUTH, markersize=14, markeredgewidth=2, capsize=5,
                  linewidth=2, zorder=5, label=f"predicted for {top['model']}{interval}:\n{error:+.2f} % of loss, "
                  f"{rest:+.1f} % of reducible loss{of}")


def _one_term(axes: Axes, records: list[dict[str, Any]], look: dict, law: Law, axis: int) -> None:
    """Loss against n (or d) with the fitted term of the other removed, so that one power law with its floor is left."""
    unit = (law.unit_n, law.unit_d)[axis]
    other = law.B / np.array([r[law.unit_d] for r in records]) ** law.beta if axis == 0 else (
        law.A / np.array([r[law.unit_n] for r in records]) ** law.alpha)
    for r, term in zip(records, other, strict=True):
        style = look[r["n_core"]]
        axes.plot(r[unit], r[law.unit_loss] - term, style["marker"], color=style["color"], markersize=4)
    values = [r[unit] for r in records]
    spread = np.geomspace(min(values) / 1.5, max(values) * 1.5, 60)
    scale, power = ((law.A, law.alpha), (law.B, law.beta))[axis]
    axes.plot(spread, law.E + scale / spread**power, color=INK, linewidth=1)
    axes.axhline(law.E, color=INK, linewidth=0.8, linestyle=":")
    letter, exponent = (("D", "alpha"), ("N", "beta"))[axis]
    low, high = law.interval(exponent)
    between = f" ({low:.3f} to {high:.3f})" if law.draws else ""
    axes.set(xscale="log", xlabel=UNITS.get(unit, unit), ylabel=f"loss less its {letter} term",
             title=f"{exponent} = {power:.3f}{between}")
    _counts(axes)


def _residuals(axes: Axes, records: list[dict[str, Any]], look: dict, law: Law, held: Sequence[dict]) -> None:
    lost = {r["id"] for r in held}
    for r in records:
        style, unseen = look[r["n_core"]], r["id"] in lost
        error = 100 * (r[law.unit_loss] / float(law.predict(r[law.unit_n], r[law.unit_d]).loss) - 1)
        axes.plot(r["flops"], error, style["marker"], color=style["color"], markersize=6 if unseen else 4,
                  markerfacecolor="white" if unseen else style["color"],
                  markeredgecolor=INK if unseen else style["color"])
    axes.axhspan(-100 * law.rms, 100 * law.rms, color=INK, alpha=0.08, linewidth=0)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set(xscale="log", xlabel=UNITS["flops"], ylabel="observed above law, %",
             title=f"residuals, rms {100 * law.rms:.2f} %")


def _curves(axes: Axes, records: list[dict[str, Any]], look: dict) -> None:
    for r in records:
        if r["metrics"].get("curve"):
            clips, loss = np.array(r["metrics"]["curve"], np.float64).T[:2]
            axes.plot(clips, loss, color=look[r["n_core"]]["color"], linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="clips seen", ylabel="loss", title="training curves")
    decimal(axes)
    _counts(axes)


def _title(law: Law | None) -> str:
    if law is None:
        return "annealed points, no law fitted"
    floor = f"{law.E:.4g}" if law.E > 1e-6 else "0"
    return (f"L = {floor} + {law.A:.4g} / N^{law.alpha:.3f} + {law.B:.4g} / D^{law.beta:.3f}   "
            f"({law.points} points, {law.runs} runs)")


def decimal(axes: Axes, sides: str = "y") -> None:
    """Plain decimals on log axes of losses; an axis of several decades keeps its powers of ten."""
    for axis in (getattr(axes, f"{side}axis") for side in sides):
        low, high = sorted(axis.get_view_interval())
        if high < 100 * low:
            axis.set_major_locator(MaxNLocator(9) if high < 3 * low else LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
            axis.set_minor_formatter(NullFormatter())


def _counts(axes: Axes) -> None:
    """Counts such as 20k on a log axis, closer together where it spans little more than a decade."""
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _count(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _count(n: float | int) -> str:
    size, letter = next(unit for unit in ((1e9, "B"), (1e6, "M"), (1e3, "k"), (1, "")) if n >= unit[0])
    return f"{n / size:.3g}{letter}"


def _column(rows: Sequence[Mapping[str, Any]], unit: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(row[unit], row[name]) for row in rows if row.get(name) is not None and row.get(unit) is not None]
    return tuple(np.array(pairs, np.float64).reshape(-1, 2).T)


def _smooth(values: Values, horizon: float = 0.02) -> np.ndarray:
    """Exponential average over a share of the run, unbiased at its beginning."""
    weight = 1 / max(1.0, horizon * len(values))
    total = norm = 0.0
    smoothed = []
    for value in values:
        if np.isfinite(value):
            total, norm = (1 - weight) * total + weight * value, (1 - weight) * norm + weight
        smoothed.append(total / norm if norm else np.nan)
    return np.array(smoothed)
