"""Pictures of a fit to anybody's table: the runs with what was fitted, how the best size grows or what is left over,
and held-out runs against what was said of them. One file, SVG or PNG, the same bytes every time."""
import os
from collections.abc import Callable

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sora_jax.scaling import optima, straight
from sora_jax.scaling.figure import INK, STYLE, TRUTH, decimal, save
from sora_jax.scaling.law import Law
from sora_jax.scaling.methods import Table
from sora_jax.scaling.outcome import Outcome

LINES = 10  # sizes that get a curve of their own; more would be a smear


def draw(made: Outcome, table: Table, law: Law | None, path: str | os.PathLike) -> None:
    """Draws the panels that this outcome has something to say in."""
    panels: list[Callable[[Axes], None]] = [lambda axes: _runs(axes, made, table, law)]
    if made.optima:
        panels.append(lambda axes: _sizes(axes, made))
    if law is not None:
        panels.append(lambda axes: _residuals(axes, table, law))
    if made.method == "kaplan":
        panels += [lambda axes, name=name: _single(axes, made, table, name) for name in ("N", "D")]
    if made.held_out:
        panels.append(lambda axes: _held(axes, made))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6 * len(panels), 4.2), layout="constrained")
        for axes, panel in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
            panel(axes)
        save(figure, path)


def _colours(values: np.ndarray) -> dict[float, tuple[float, ...]]:
    sizes = np.unique(values)
    shades = mpl.colormaps["viridis"](np.linspace(0, 0.88, len(sizes)))
    return dict(zip(sizes.tolist(), map(tuple, shades.tolist()), strict=True))


def _runs(axes: Axes, made: Outcome, table: Table, law: Law | None) -> None:
    """Loss against size, a colour for each budget, where minima were sought; else against compute or data, a colour for
    each size."""
    points = table.points
    if made.method == "isoflop":
        _valleys(axes, made, table)
        return
    x, label = (table.c, "training FLOPs") if table.c is not None else (points.d, f"D, {points.unit_d}")
    shades = _colours(points.n)
    for size in np.unique(points.n):
        here = points.n == size
        axes.plot(x[here], points.loss[here], "o", color=shades[size], markersize=4)
    if law is not None:
        for size in np.unique(points.n)[:: max(1, len(shades) // LINES)]:
            here = points.n == size
            spread = np.geomspace(points.d[here].min() / 1.5, points.d[here].max() * 1.5, 60)
            per = 1.0 if table.c is None else float(np.median(table.c[here] / points.d[here]))
            axes.plot(spread * per, law.predict(size, spread).loss, color=shades[size], linewidth=1)
    if made.optima:
        axes.plot([o["c"] for o in made.optima], [o["loss"] for o in made.optima], color=TRUTH, linewidth=1.5,
                  label="lowest loss for the budget")
        axes.legend()
    axes.set(xscale="log", yscale="log", xlabel=label, ylabel=f"loss, {points.unit_loss}",
             title=f"{made.method}: {made.n} points, colour by size")
    decimal(axes)


def _valleys(axes: Axes, made: Outcome, table: Table) -> None:
    points, shades = table.points, mpl.colormaps["viridis"](np.linspace(0, 0.88, len(made.optima)))
    for o, shade in zip(made.optima, shades, strict=True):
        here = np.abs(np.log(table.c / o["c"])) < optima.SAME_BUDGET
        axes.plot(points.n[here], points.loss[here], "o", color=shade, markersize=3)
        axes.plot(*np.array(o["curve"]).T, color=shade, linewidth=0.8)
        axes.plot(o["n"], o["loss"], "*", color=TRUTH, markersize=9)
    axes.set(xscale="log", yscale="log", xlabel=f"N, {points.unit_n}", ylabel=f"loss, {points.unit_loss}",
             title=f"isoflop: {len(made.optima)} budgets with a minimum")
    decimal(axes)


def _sizes(axes: Axes, made: Outcome) -> None:
    """N_opt against C with the line and the band of its exponent about the middle budget."""
    c, n = (np.array([o[name] for o in made.optima]) for name in ("c", "n"))
    axes.plot(c, n, "*" if len(c) < 60 else ".", color=TRUTH, markersize=9 if len(c) < 60 else 2)
    spread = np.geomspace(c.min() / 2, c.max() * 10, 60)
    line = straight.line(c, n)
    axes.plot(spread, line.at(spread), color=INK, linewidth=1)
    low, high = made.intervals.get("a", (np.nan, np.nan))
    said = f"a = {line.exponent:.3f}"
    if np.isfinite(low):
        middle = np.exp(np.log(c).mean())
        band = [line.at(middle) * (spread / middle) ** edge for edge in (low, high)]
        axes.fill_between(spread, np.minimum(*band), np.maximum(*band), color=INK, alpha=0.12, linewidth=0)
        said += f" ({low:.3f} to {high:.3f})"
    axes.set(xscale="log", yscale="log", xlabel="training FLOPs", ylabel="best N", title=f"N_opt ~ C^a, {said}")


def _residuals(axes: Axes, table: Table, law: Law) -> None:
    points = table.points
    shades = _colours(points.n)
    error = 100 * (points.loss / law.predict(points.n, points.d).loss - 1)
    for size, shade in shades.items():
        axes.plot(points.d[points.n == size], error[points.n == size], "o", color=shade, markersize=4)
    axes.axhspan(-100 * law.rms, 100 * law.rms, color=INK, alpha=0.08, linewidth=0)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set(xscale="log", xlabel=f"D, {points.unit_d}", ylabel="observed above law, %",
             title=f"residuals, rms {100 * law.rms:.2f} %; a = {law.n_exponent:.3f}")


def _single(axes: Axes, made: Outcome, table: Table, name: str) -> None:
    points = table.points
    x, unit = (points.n, points.unit_n) if name == "N" else (points.d, points.unit_d)
    kept = straight.frontier(x, points.loss)
    axes.plot(x, points.loss, "o", color="#BBBBBB", markersize=3)
    axes.plot(x[kept], points.loss[kept], "o", color=TRUTH, markersize=4)
    spread = np.geomspace(x.min(), x.max(), 50)
    axes.plot(spread, (made.values[f"{name}_c"] / spread) ** made.values[f"alpha_{name}"], color=INK, linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel=f"{name}, {unit}", ylabel=f"loss, {points.unit_loss}",
             title=f"alpha_{name} = {made.values[f'alpha_{name}']:.4f}")
    decimal(axes)


def _held(axes: Axes, made: Outcome) -> None:
    """What was said against what was seen, with the interval of one more run where there is one."""
    said, low, high, seen = (np.array([row[name] for row in made.held_out], np.float64)
                             for name in ("predicted", "low", "high", "observed"))
    width = np.nan_to_num(np.stack([said - low, high - said]), nan=0.0).clip(0)
    axes.errorbar(seen, said, yerr=width, fmt="o", color=TRUTH, markersize=5, capsize=3, linestyle="none")
    edges = [min(seen.min(), said.min()) * 0.98, max(seen.max(), said.max()) * 1.02]
    axes.plot(edges, edges, color=INK, linewidth=0.8)
    worst = 100 * max(abs(row["error"]) for row in made.held_out)
    axes.set(xlabel="observed loss, held out", ylabel="predicted loss", title=f"held out: at most {worst:.2f} % off")
