"""A study from its records: the law and its prediction, the valleys, the two recipes and the motion, each as a picture,
a JSON file of what is in it, and a text. The same records give the same bytes.

What records do not carry is left out: no valley without equal budgets, no motion without velocity errors.
"""
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sora_jax import disk
from sora_jax.scaling import figure, fit, fit_figure, methods, motion, outcome, readings, readings_figure, records
from sora_jax.scaling.law import Law
from sora_jax.types import InputError


@dataclasses.dataclass(frozen=True)
class Parts:
    """Records that are fitted, held out to be predicted, and left out of the law by hand; the columns of the fit."""

    kept: Sequence[dict[str, Any]]
    held: Sequence[dict[str, Any]] = ()
    left: Sequence[dict[str, Any]] = ()
    n: str = "n_core"
    d: str = "clips"
    bootstrap: int = 400
    floors: Mapping[str, float] = dataclasses.field(default_factory=dict)  # velocity errors of the autoencoder

    def table(self) -> methods.Table:
        """The fitted points with their FLOPs."""
        rows = [r for r in self.kept if r["annealed"]]
        return methods.Table(records.points(list(self.kept), n=self.n, d=self.d),
                             np.array([r["flops"] for r in rows], np.float64))


class Section(NamedTuple):
    """A picture with what it says, and the files that were written."""

    title: str
    text: str
    picture: Path
    written: tuple[Path, ...]


def draw(parts: Parts, out: Path) -> list[Section]:
    """Everything the records carry, into `out`. Raises InputError if they cannot carry a law."""
    out.mkdir(parents=True, exist_ok=True)
    law = fitted(parts)
    makers: list[Callable[[], Section | None]] = [
        lambda: _law(parts, law, out), lambda: _valleys(parts, out), lambda: _readings(parts, law, out),
        lambda: _motion(parts, out)]
    return [section for make in makers if (section := make()) is not None]


def fitted(parts: Parts) -> Law:
    """The law of the kept records; a note names what was left out by hand."""
    law = fit.fit(records.points(list(parts.kept), n=parts.n, d=parts.d), bootstrap=parts.bootstrap)
    if parts.left:
        names = ", ".join(sorted({row["model"] for row in parts.left}))
        law = dataclasses.replace(law, notes=(*law.notes, f"{len(parts.left)} points of {names} were left out by hand"))
    return law


def predict(law: Law, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The law against the mean of records that it has not seen and that differ in seed alone; the interval is that of
    as many more runs."""
    first, several = runs[0], len(runs) > 1
    n, d, observed = first[law.unit_n], first[law.unit_d], float(np.mean([row[law.unit_loss] for row in runs]))
    loss, low, high = (float(value) for value in law.predict(n, d, new_run=len(runs)))
    return {"id": f"mean of {len(runs)} seeds of {first['model']}, {d} {law.unit_d}" if several else first["id"],
            "n": n, "d": d, "predicted": loss, "low": low, "high": high, "observed": observed,
            "error": loss / observed - 1, "reducible_error": float(law.reducible_error(n, d, observed))}


def _law(parts: Parts, law: Law, out: Path) -> Section:
    held = [row for row in parts.held if row["annealed"]]
    several = [cell for cell in records.repeats(held) if len(cell) > 1]
    held = [predict(law, cell) for cell in [*([row] for row in held), *several]]
    sigma, freedom = records.seed_noise([*parts.kept, *parts.held])
    noise = f"{sigma:.3g} from {freedom} repeats" if freedom else "no repeated run"
    lines = [str(law), *("held out {id}: predicted {predicted:.5g} ({low:.5g} to {high:.5g}), observed {observed:.5g}, "
                         "off by {error:+.2%} of loss, {reducible_error:+.1%} of reducible loss".format(**row)
                         for row in held), f"seed noise of log loss: {noise}"]
    saved = {**law.to_dict(), "held_out": held,
             "seed_noise": {"sigma": sigma if freedom else None, "degrees_of_freedom": freedom}}
    paths = [_save(out / "law.json", saved)]
    for ending in ("svg", "png"):
        figure.curve(list(parts.kept), law, out / f"figure.{ending}", held=parts.held, left=parts.left)
        paths.append(out / f"figure.{ending}")
    return Section("The law", "\n".join(lines), out / "figure.svg", tuple(paths))


def _valleys(parts: Parts, out: Path) -> Section | None:
    """None where fewer than two budgets have a minimum."""
    table = parts.table()
    try:
        made, _ = methods.apply(table, "isoflop", parts.bootstrap)
    except InputError:
        return None
    fit_figure.draw(made, table, None, out / "isoflop.svg")
    return Section("Equal budgets", str(made), out / "isoflop.svg",
                   (out / "isoflop.svg", _save(out / "isoflop.json", made.to_dict())))


def _readings(parts: Parts, law: Law, out: Path) -> Section | None:
    table = parts.table()
    if len(np.unique(table.points.n)) < 2:
        return None
    found = readings.read(table, law, parts.bootstrap)
    readings_figure.draw(found, table, law, out / "readings.svg")
    return Section("Train large and stop early, or grow both?", found.verdict(), out / "readings.svg",
                   (out / "readings.svg", _save(out / "readings.json", found.to_dict())))


def _motion(parts: Parts, out: Path) -> Section | None:
    rows = [*parts.kept, *parts.held, *parts.left]
    if len(motion.carries(rows)) < 3:
        return None
    found = motion.powers(rows, parts.bootstrap)
    motion.draw(rows, found, out / "motion.svg", parts.floors)
    saved = {"powers": [dataclasses.asdict(power) for power in found], "floors": dict(parts.floors)}
    return Section("The error of the motion", "\n".join(map(str, found)), out / "motion.svg",
                   (out / "motion.svg", _save(out / "motion.json", saved)))


def _save(path: Path, table: dict[str, Any]) -> Path:
    disk.write(path, outcome.text(table).encode())
    return path
