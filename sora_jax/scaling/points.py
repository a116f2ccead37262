"""The columns of a fit: sizes n, data d, losses, their units, and which run each point belongs to."""
import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from sora_jax.types import InputError

Column = Sequence | np.ndarray
Values = float | int | np.number | Column


@dataclasses.dataclass(frozen=True)
class Points:
    """Columns of equal length. `group` names the run whose noise a point carries (a branch carries that of the run it
    was cut from); `notes` say what varies among the points and should not."""

    n: Float[np.ndarray, "points"]
    d: Float[np.ndarray, "points"]
    loss: Float[np.ndarray, "points"]
    group: tuple[str, ...]
    annealed: Bool[np.ndarray, "points"]
    unit_n: str = "n"
    unit_d: str = "d"
    unit_loss: str = "loss"
    notes: tuple[str, ...] = ()


def table(n: Column, d: Column, loss: Column, *, group: Column | None = None, annealed: Column | None = None,
          **units: str | tuple[str, ...]) -> Points:
    """`Points` from plain columns. Unless said otherwise every point is annealed and a run of its own. Raises
    InputError for columns of unequal length and for values that are not finite and positive."""
    columns = {"n": n, "d": d, "loss": loss}
    columns = {name: np.asarray(column, np.float64).reshape(-1) for name, column in columns.items()}
    size = len(columns["n"])
    group = tuple(str(g) for g in (range(size) if group is None else group))
    annealed = np.ones(size, bool) if annealed is None else np.asarray(annealed, bool)
    for name, column in {**columns, "group": group, "annealed": annealed}.items():
        if len(column) != size:
            raise InputError(f"column {name!r} has {len(column)} values, column 'n' has {size}")
    for name, column in columns.items():
        bad = np.flatnonzero(~(np.isfinite(column) & (column > 0)))
        if bad.size:
            raise InputError(f"column {name!r} holds {column[bad[0]]} in row {bad[0]}; a law needs positive numbers")
    return Points(**columns, group=group, annealed=annealed, **units)
