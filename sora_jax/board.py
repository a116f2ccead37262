"""How a sweep stands, read from its folder: one row a run, in the terminal or as a page.

Enters: names and folders of runs with their length in updates. Leaves: rows of state, step, loss, rate, time left,
attempts and last error. No run is changed.
"""
import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sora_jax import lease, page

RECENT = 10  # rows that the pace is read from
TAIL = 16_384  # bytes of a metrics file that are read: the last rows are enough
HEADER = ("run", "state", "step", "of", "loss", "updates/s", "left", "attempts", "last error")


class Entry(NamedTuple):
    """A run to look at: its name, folder, updates in all (branches apart), and whether it is recorded to its end."""

    name: str
    folder: Path
    steps: int
    done: bool


def rows(entries: Sequence[Entry], rule: lease.Rule = lease.RULE) -> list[tuple[str, ...]]:
    """One row of text for each run, in the order of `HEADER`."""
    return [_row(entry, lease.status(entry.folder, rule)) for entry in entries]


def _row(entry: Entry, status: lease.Status) -> tuple[str, ...]:
    tail = metrics(entry.folder / "metrics.jsonl")
    step, loss, rate = _progress(tail)
    state = "done" if entry.done else {"held": "running", "free": "stopped" if status.token else "waiting",
                                       "waiting": "backing off"}.get(status.state, status.state)
    left = _duration((entry.steps - step) / rate) if state == "running" and rate else ""
    return (entry.name, state, str(step or ""), str(entry.steps), f"{loss:.4g}" if loss is not None else "",
            f"{rate:.3g}" if rate and state == "running" else "", left, str(status.attempts or ""),
            "" if entry.done else status.error.splitlines()[-1][:120] if status.error else "")


def metrics(path: Path) -> list[dict]:
    """The last rows of a metrics file; a half-written row is left out."""
    if not path.is_file():
        return []
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
        lines = file.read().splitlines()
    found = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and "step" in row:
            found.append(row)
    return found


def _progress(tail: list[dict]) -> tuple[int, float | None, float]:
    """(step, loss, updates per second) from the newest rows of training; the pace is that of the last few."""
    losses = [(name, row["step"], value, row.get("time")) for row in tail for name, value in row.items()
              if name.endswith("/loss") and isinstance(value, int | float)]
    if not losses:
        return 0, None, 0.0
    phase, step, loss, _ = losses[-1]
    timed = [(k, at) for name, k, _, at in losses if name == phase and isinstance(at, int | float)][-RECENT:]
    paces = [(k - before) / (at - earlier) for (before, earlier), (k, at) in zip(timed, timed[1:], strict=False)
             if at > earlier and k > before]
    return step, loss, statistics.median(paces) if paces else 0.0


def text(table: Sequence[tuple[str, ...]]) -> str:
    """The rows under the header, in columns, and how many runs are in each state."""
    everything = [HEADER, *table]
    wide = [max(len(row[k]) for row in everything) for k in range(len(HEADER))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, wide, strict=True)).rstrip() for row in everything]
    return "\n".join([*lines, tally(table)])


def tally(table: Sequence[tuple[str, ...]]) -> str:
    """"3 done, 1 running"."""
    states = [row[1] for row in table]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def write(path: str | os.PathLike, title: str, table: Sequence[tuple[str, ...]]) -> Path:
    """The same as one HTML file without links."""
    section = page.Section("Runs", (page.Text(tally(table)), page.Table(HEADER, table)))
    return page.page(path, title, [section])


def _duration(seconds: float) -> str:
    minutes = int(seconds // 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
