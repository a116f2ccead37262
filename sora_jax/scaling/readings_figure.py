"""The iso-loss picture of two recipes for a budget: what each loss costs at each size, and where the recipes lead.

Left, Kaplan's picture: one curve of constant loss for each level, its cheapest size, and three paths through the same
point. Right: the loss that each path reaches, beyond the budgets that were measured.
"""
import os

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sora_jax.scaling import readings
from sora_jax.scaling.figure import INK, STYLE, TRUTH, decimal, save
from sora_jax.scaling.law import Law
from sora_jax.scaling.methods import Table, price
from sora_jax.scaling.readings import RECIPES, Readings

PATHS = {name: {"color": shade, "linestyle": dash, "linewidth": 1.6} for name, shade, dash in zip(
    RECIPES, ("#0072B2", "#009E73"), ("--", "-."), strict=True)}
OURS = {"color": TRUTH, "linestyle": "-", "linewidth": 1.8}
LEVELS = 7


def draw(found: Readings, table: Table, law: Law, path: str | os.PathLike) -> None:
    """Draws both panels from a law and the table it was fitted to."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 4.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        isoloss(left, table, law, found)
        reached(right, table, law)
        save(figure, path)


def isoloss(axes: Axes, table: Table, law: Law, found: Readings) -> None:
    """FLOPs with which a size reaches a loss, one curve a loss; the points measured, coloured by theirs."""
    c, n, per = table.compute("readings"), table.points.n, readings.cost(table)
    sizes = np.geomspace(n.min() / 3, n.max() * 5, 160)
    shades = mpl.colormaps["viridis"]
    low, high = np.log(table.points.loss.min()), np.log(table.points.loss.max())
    for level in np.linspace(low, high, LEVELS):
        flops = np.array([price(law, float(size), float(np.exp(level)), per) for size in sizes])
        shown = np.isfinite(flops) & (flops < 30 * c.max()) & (flops > c.min() / 10)
        axes.plot(sizes[shown], flops[shown], color=shades((level - low) / (high - low) * 0.88), linewidth=1)
        if shown.any():
            at = int(np.flatnonzero(shown)[-1])
            axes.annotate(f"{np.exp(level):.3g}", (sizes[at], flops[at]), fontsize=7, color="#555555")
    axes.scatter(n, c, c=shades((np.log(table.points.loss) - low) / (high - low) * 0.88), s=16, zorder=3,
                 edgecolors="white", linewidths=0.4)
    budgets = np.geomspace(c.min(), c.max() * 30, 40)
    axes.plot([law.optimal(float(b), per).n for b in budgets], budgets, **OURS, label="the law's best size")
    start, size = readings.anchor(table, law)
    for name, style in PATHS.items():
        axes.plot(size * (budgets / start) ** RECIPES[name], budgets, **style, label=f"{name}, a = {RECIPES[name]}")
    first = found.estimates[0]
    interval = "" if np.isnan(first.low) else f" ({first.low:.2f} to {first.high:.2f})"
    axes.set(xscale="log", yscale="log", xlabel=f"N, {table.points.unit_n}", ylabel="training FLOPs",
             title=f"curves of equal loss; ours N_opt ~ C^{first.a:.2f}{interval}")
    axes.set_xlim(n.min() / 3, n.max() * 8)
    axes.set_ylim(c.min() / 5, c.max() * 40)
    axes.legend(loc="lower right")


def reached(axes: Axes, table: Table, law: Law) -> None:
    """Loss along each path; shaded where no run was."""
    c, per = table.compute("readings"), readings.cost(table)
    budgets = np.geomspace(c.min(), c.max() * readings.FARTHER, 60)
    axes.plot(c, table.points.loss, "o", color="#BBBBBB", markersize=3, label="runs")
    axes.plot(budgets, [law.optimal(float(b), per).loss for b in budgets], **OURS, label="the law's best size")
    start, size = readings.anchor(table, law)
    for name, style in PATHS.items():
        n = size * (budgets / start) ** RECIPES[name]
        d = budgets / np.array([per(float(value)) for value in n])
        axes.plot(budgets, law.predict(n, d).loss, **style, label=name)
    axes.axvspan(c.max(), budgets[-1], color=INK, alpha=0.05, linewidth=0)
    axes.axhline(law.E, color=INK, linewidth=0.8, linestyle=":")
    axes.set(xscale="log", yscale="log", xlabel="training FLOPs", ylabel=f"loss, {table.points.unit_loss}",
             title="what each recipe reaches; shaded: no run went there")
    decimal(axes)
    axes.legend()
