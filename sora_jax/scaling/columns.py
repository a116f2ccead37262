"""Anybody's table of runs, CSV or JSON lines, as columns of numbers: chosen by name, filtered by value."""
import csv
import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from sora_jax.types import InputError

Rows = list[dict[str, object]]


def read(path: str | Path) -> Rows:
    """Rows of a .csv with a header, or of a .jsonl. Raises InputError naming the line that is wrong."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = _jsonl(path, text) if path.suffix == ".jsonl" else _csv(path, text)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a table in UTF-8 ({error})") from None
    if not rows:
        raise InputError(f"{path}: no rows")
    return rows


def _jsonl(path: Path, text: str) -> Rows:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f"{path}:{number}: not JSON ({error})") from None
            if not isinstance(row, dict):
                raise InputError(f"{path}:{number}: expected an object, found {type(row).__name__}")
            rows.append(row)
    return rows


def _csv(path: Path, text: str) -> Rows:
    reader = csv.reader(text.splitlines())
    header = next(reader, [])
    if len(set(header)) != len(header):
        raise InputError(f"{path}: a column name occurs twice in the header")
    rows = []
    for cells in reader:
        if not cells:
            continue
        if len(cells) != len(header):
            raise InputError(f"{path}:{reader.line_num}: {len(cells)} cells under {len(header)} column names")
        rows.append(dict(zip(header, cells, strict=True)))
    return rows


def conditions(texts: Sequence[str], flag: str) -> dict[str, tuple[str, ...]]:
    """COL=VALUE or COL=VALUE,VALUE as a table. Raises InputError for anything else."""
    table = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not (name and equals):
            raise InputError(f"--{flag}={text}: write COLUMN=VALUE or COLUMN=VALUE,VALUE")
        table[name] = (*table.get(name, ()), values, *values.split(","))
    return table


def where(rows: Rows, wanted: Mapping[str, tuple[str, ...]], flag: str) -> np.ndarray:
    """Which rows have, in every column named, one of its values (as text, or as the same number)."""
    kept = np.ones(len(rows), bool)
    for name, values in wanted.items():
        cells = column(rows, name)
        here = np.array([_is(cell, values) for cell in cells])
        if not here.any():
            known = sorted({str(cell) for cell in cells})
            raise InputError(f"--{flag}={name}={values[0]}: no row has it; the column holds {', '.join(known[:8])}"
                             f"{' …' if len(known) > 8 else ''}")
        kept &= here
    if not kept.any():
        raise InputError(f"--{flag}: no row meets all of its conditions")
    return kept


def _is(cell: object, values: tuple[str, ...]) -> bool:
    if str(cell) in values:
        return True
    try:
        return float(cell) in [float(value) for value in values if _number(value)]
    except (TypeError, ValueError):
        return False


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def column(rows: Rows, name: str) -> list[object]:
    """The cells of a column. Raises InputError with the nearest name if there is none."""
    names = list(dict.fromkeys(key for row in rows for key in row))
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise InputError(f"no column {name!r}{hint} The table has {', '.join(names)}")
    return [row.get(name, "") for row in rows]


def numbers(rows: Rows, name: str) -> Float[np.ndarray, "points"]:
    """A column as positive float64. Raises InputError naming the first row that is not."""
    values = []
    for index, cell in enumerate(column(rows, name)):
        try:
            value = float(cell)
        except (TypeError, ValueError, OverflowError):
            raise InputError(f"column {name!r}, row {index}: {cell!r} is not a number") from None
        if not (np.isfinite(value) and value > 0):
            raise InputError(f"column {name!r}, row {index}: {cell} is not positive and finite; a law needs logarithms")
        values.append(value)
    return np.array(values, np.float64)
