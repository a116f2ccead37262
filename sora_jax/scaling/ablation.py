"""One change at a time, at equal FLOPs: what each does to the error, beside what a seed does.

Enters: records with an error on one scale (`metrics.matched_loss`), the group and the name of each change, repeats of
the default. Leaves: rows with their difference to the default, and a picture.
"""
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from sora_jax.scaling.figure import INK, STYLE, save
from sora_jax.types import InputError

LOSS, MOTION = "matched_loss", "velocity_id"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")  # Okabe and Ito 2008
LEVEL = 0.02  # of FLOPs, within which runs count as equal


class Change(NamedTuple):
    """A change, its error and velocity error, and by how much the first differs from the mean of the defaults."""

    group: str
    name: str
    loss: float
    motion: float
    difference: float
    flops: float
    clips: int


class Compared(NamedTuple):
    """The changes, the mean error of the defaults, and the relative deviation of one of them (NaN if there is one)."""

    changes: list[Change]
    default: float
    noise: float
    repeats: int


def compare(records: Sequence[Mapping[str, Any]], groups: Mapping[str, Sequence[str]]) -> Compared:
    """The records whose `experiment` is "<group>-<name>", beside those of "default…". Raises InputError if there is no
    default, a record has no such error, or FLOPs are not equal."""
    for row in records:
        if LOSS not in row["metrics"]:
            raise InputError(f"record {row['id']} has no metrics.{LOSS}; train with eval.matched=True")
    defaults = [row for row in records if row["experiment"].startswith("default")]
    if not defaults:
        raise InputError("there is no record of the default; its experiment is called 'default'")
    budget = defaults[0]["flops"]
    for row in records:
        if abs(row["flops"] / budget - 1) > LEVEL:
            raise InputError(f"record {row['id']} ({row['experiment']}) cost {row['flops']:.3g} FLOPs, the default "
                             f"{budget:.3g}: these do not compare")
    losses = np.array([row["metrics"][LOSS] for row in defaults])
    mean = float(losses.mean())
    noise = float(np.log(losses).std(ddof=1)) if len(losses) > 1 else float("nan")
    by = {row["experiment"]: row for row in records}
    made = [Change(group, name, row["metrics"][LOSS], row["metrics"].get(MOTION, float("nan")),
                   row["metrics"][LOSS] / mean - 1, row["flops"], row["clips"])
            for group, names in groups.items() for name in names if (row := by.get(f"{group}-{name}"))]
    return Compared(made, mean, noise, len(losses))


def table(found: Compared) -> str:
    """One line a change."""
    lines = [f"default: {found.default:.4f}, a seed moves it by {found.noise:.2%} ({found.repeats} runs)",
             f"{'group':14}{'change':14}{'error':>9}{'difference':>12}{'seeds':>8}{'velocity':>10}{'clips':>9}"]
    lines += [f"{one.group:14}{one.name:14}{one.loss:9.4f}{one.difference:+12.1%}{one.difference / found.noise:+8.1f}"
              f"{one.motion:10.4f}{one.clips:9,}" for one in found.changes]
    return "\n".join(lines)


def draw(found: Compared, path: str | os.PathLike) -> None:
    """A bar for each change: the difference of its error to the default's, with two deviations of a seed as a band."""
    groups = list(dict.fromkeys(one.group for one in found.changes))
    shades = dict(zip(groups, COLOURS * len(groups), strict=False))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 0.28 * len(found.changes) + 1.4), layout="constrained")
        axes = figure.subplots()
        places = np.arange(len(found.changes))[::-1]
        if np.isfinite(found.noise):
            axes.axvspan(-200 * found.noise, 200 * found.noise, color="0.88", zorder=0, label="two seeds' deviations")
        for group in groups:
            mine = [(at, one) for at, one in zip(places, found.changes, strict=True) if one.group == group]
            axes.barh([at for at, _ in mine], [100 * one.difference for _, one in mine], color=shades[group],
                      label=group, height=0.7)
        for at, one in zip(places, found.changes, strict=True):
            right = one.difference >= 0
            axes.annotate(f"{one.difference:+.1%}", (100 * one.difference, at), xytext=(3 if right else -3, 0),
                          textcoords="offset points", va="center", ha="left" if right else "right", fontsize=7,
                          color=INK)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(places, [one.name for one in found.changes])
        axes.margins(x=0.15)
        axes.set(xlabel=f"error on the scale of flow, against the default's {found.default:.4f}, %",
                 title="one change at a time, equal training FLOPs")
        axes.legend(loc="best")
        save(figure, path)
