"""Where the best learning rate lies at each width, with width rules and without, from the records of a sweep.

Enters: annealed records of one depth and length; `metrics.base_width` marks those whose run had rules. Leaves: the best
rate of each width under each rule, and a picture of loss against rate.
"""
import os
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sora_jax.scaling.figure import INK, MARKERS, STYLE, UNITS, decimal, save
from sora_jax.types import InputError

SAME = ("depth", "clips", "batch", "dtype", "tokens_per_clip")
NAMES = {"none": "no rules", "mup": "width rules"}


class Line(NamedTuple):
    """Losses of one width at rising rates."""

    rate: Float[np.ndarray, "rates"]
    loss: Float[np.ndarray, "rates"]


class Best(NamedTuple):
    """The best rate that was tried and its loss, and the vertex of the parabola in log rate through it and its
    neighbours: nan if it is the smallest or the largest rate."""

    rate: float
    loss: float
    vertex: float


def lines(records: list[dict[str, Any]]) -> dict[str, dict[int, Line]]:
    """Rule → width → line. Runs of the base width belong to both rules, which are one there; losses of several seeds
    are averaged. Raises InputError for records that cannot be compared."""
    rows = [record for record in records if record["annealed"]]
    bases = {row["metrics"]["base_width"] for row in rows if "base_width" in row["metrics"]}
    if len(bases) != 1:
        raise InputError(f"records with width rules from {len(bases)} base widths; the picture needs one")
    for name in SAME:
        if len(values := {row[name] for row in rows}) > 1:
            raise InputError(f"{name} varies among the records ({sorted(values)}): their best rates do not compare")
    seen: dict[str, dict[int, dict[float, list[float]]]] = {name: {} for name in NAMES}
    for row in rows:
        ruled = "base_width" in row["metrics"]
        for name in {"mup"} if ruled else {"none", "mup"} if row["width"] in bases else {"none"}:
            seen[name].setdefault(row["width"], {}).setdefault(row["lr"], []).append(row["val_loss"])
    return {name: {width: Line(*np.array([(rate, np.mean(found)) for rate, found in sorted(rates.items())]).T)
                   for width, rates in sorted(widths.items())} for name, widths in seen.items()}


def best(line: Line) -> Best:
    """Where the loss of a line is least."""
    k = int(np.argmin(line.loss))
    vertex = float("nan")
    if 0 < k < len(line.rate) - 1:
        near = slice(k - 1, k + 2)
        a, b, _ = np.polyfit(np.log(line.rate[near] / line.rate[k]), line.loss[near], 2)
        vertex = float(line.rate[k] * np.exp(-b / (2 * a))) if a > 0 else vertex
    return Best(float(line.rate[k]), float(line.loss[k]), vertex)


def moves(widths: dict[int, Line]) -> dict[int, float]:
    """Factors of two, by width, from the best rate (vertex) of the smallest to that of each."""
    found = {width: best(line).vertex for width, line in widths.items()}
    return {width: float(np.log2(vertex / found[min(found)])) for width, vertex in found.items()}


def draw(records: list[dict[str, Any]], path: str | os.PathLike) -> None:
    """Loss against rate to `path`: one panel a rule, one line a width, its best rate filled, the vertex a tick."""
    panels = lines(records)
    sizes = sorted({width for widths in panels.values() for width in widths})
    shades = dict(zip(sizes, mpl.colormaps["viridis"](np.linspace(0.0, 0.88, len(sizes))), strict=True))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 4), layout="constrained")
        for axes, (name, widths) in zip(figure.subplots(1, 2, sharex=True, sharey=True), panels.items(), strict=True):
            for width, line in widths.items():
                _line(axes, width, line, shades[width], MARKERS[sizes.index(width)])
            moved = ", ".join(f"{move:+.1f}" for move in list(moves(widths).values())[1:])
            axes.set(yscale="log", xlabel="base learning rate",
                     title=f"{NAMES[name]}: the best rate moves by {moved} factors of two")
            axes.set_xscale("log", base=2)
            axes.legend()
        figure.axes[0].set_ylabel(UNITS["val_loss"])
        decimal(figure.axes[0])
        save(figure, path)


def _line(axes: Axes, width: int, line: Line, shade: Float[np.ndarray, "4"], marker: str) -> None:
    top = best(line)
    axes.plot(*line, marker=marker, color=shade, markerfacecolor="white", markersize=5, linewidth=1,
              label=f"width {width}")
    axes.plot([top.rate], [top.loss], marker=marker, color=shade, markersize=7, markeredgecolor=INK, linestyle="none")
    axes.plot([top.vertex], [top.loss * 0.98], marker="|", color=shade, markersize=9, markeredgewidth=2)
