"""Run records: one JSON line per trained point, written once, and the columns a fit takes from them.

In: dicts or files of JSON lines. Out: validated dicts, and `Points` (n, d, loss with their units and run ids).
A branch shares the noise of the run it was cut from, so both carry the same group (Besiroglu et al. 2024, section 3).
"""
import dataclasses
import fcntl
import json
import math
import os
import tempfile
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sora_jax.scaling.points import Points, table
from sora_jax.types import InputError

Json = dict[str, Any]
MUST_AGREE = ("flops_version", "tokens_per_clip", "ema_horizon", "dtype", "device")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One point of a curve. `params` counts by group, `flops` are training FLOPs, exact and analytic, and
    `val_loss` is read on the EMA weights. `images` are one-frame clips seen besides `clips`; `started_from` is the
    record whose weights the run began with, whose FLOPs are not in `flops`. Fields without a default are required in
    every line."""

    id: str
    experiment: str
    config_hash: str
    model: str
    width: int
    depth: int
    n_core: int
    n_total: int
    params: dict[str, int]
    tokens_per_clip: int
    clips: int
    tokens: int
    latent_elements: int
    flops: int
    flops_version: int | str
    steps: int
    batch: int
    annealed: bool
    seed: int
    lr: float
    val_loss: float
    device: str
    dtype: str
    commit: str
    branch_of: str | None = None
    images: int = 0
    started_from: str | None = None
    cooldown_fraction: float = 0.0
    ema_horizon: float | None = None
    val_loss_se: float | None = None
    val_loss_raw: float | None = None
    val_bins: list[float] = dataclasses.field(default_factory=list)
    train_seconds: float | None = None
    environment: dict[str, Any] = dataclasses.field(default_factory=dict)
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)


FIELDS = {field.name: field for field in dataclasses.fields(Record)}
REQUIRED = tuple(name for name, field in FIELDS.items()
                 if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING)
NUMBERS = tuple(name for name, field in FIELDS.items() if field.type in (int, float, float | None))
POSITIVE = ("width", "depth", "n_core", "n_total", "tokens_per_clip", "clips", "tokens", "latent_elements", "flops",
            "val_loss")


def validate(record: Mapping[str, Any], where: str = "record") -> Json:
    """The record as a plain dict with defaults filled in. Raises InputError naming the field and `where`."""
    if not isinstance(record, Mapping):
        raise InputError(f"{where}: expected a JSON object, found {type(record).__name__}")
    for name in REQUIRED:
        if record.get(name) is None:
            raise InputError(f"{where}: required field {name!r} is missing; a record holds {', '.join(REQUIRED)}")
    row = {name: json.loads(_dumps(value, f"{where}: field {name!r}")) for name, value in record.items()}
    for name, value in row.items():
        if name not in FIELDS:
            raise InputError(f"{where}: unknown field {name!r}; free figures belong in the field 'metrics'")
        if not _fits(value, FIELDS[name].type):
            raise InputError(f"{where}: field {name!r} is {value!r}, it must be {_spelling(FIELDS[name].type)}")
        if name in POSITIVE and not 0 < value < math.inf:
            raise InputError(f"{where}: field {name!r} is {value!r}, it must be positive and finite")
    return {**{name: _default(field) for name, field in FIELDS.items()}, **row}


def _fits(value: Any, kind: Any) -> bool:
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    kinds = tuple(typing.get_origin(k) or k for k in kinds)
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) or (isinstance(value, int) and float in kinds)


def _spelling(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)


def _default(field: dataclasses.Field) -> Any:
    made = field.default_factory is not dataclasses.MISSING
    return field.default_factory() if made else field.default


def read(path: str | os.PathLike) -> list[Json]:
    """Every record of a file of JSON lines, validated; one id twice is an error."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; a run writes its record there when it ends")
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}:{number}: not a JSON object ({error.msg}); remove or mend that line") from None
        records.append(validate(record, f"{path}:{number}"))
    _unique(records, str(path))
    return records


def write(path: str | os.PathLike, records: Iterable[Mapping[str, Any]]) -> None:
    """Replaces the file by these records, atomically."""
    path = Path(path)
    rows = [validate(record, f"{path}: record {k}") for k, record in enumerate(records, 1)]
    _unique(rows, str(path))
    with _locked(path):
        _replace(path, rows)


def append(path: str | os.PathLike, record: Mapping[str, Any]) -> bool:
    """Adds one record, atomically and exactly once, safe among processes of one machine.

    Returns False, changing nothing, if the identical record is there; raises InputError if its id holds other values.
    """
    path = Path(path)
    row = validate(record, f"{path}: new record")
    with _locked(path):
        rows = read(path) if path.exists() else []
        for old in rows:
            if old["id"] == row["id"]:
                differ = sorted(name for name in row if row[name] != old[name])
                if differ:
                    raise InputError(f"{path}: id {row['id']!r} is already recorded with another {', '.join(differ)}; "
                                     "a run is recorded once")
                return False
        _replace(path, [*rows, row])
    return True


def points(records: list[Json], n: str = "n_core", d: str = "clips", loss: str = "val_loss",
           annealed: bool | None = True) -> Points:
    """The columns named, from annealed records (None: from all, which a fit refuses if both kinds are present).
    Records of runs that began from another's weights are refused: their size and data do not say what they saw."""
    for name in (n, d, loss):
        if name not in NUMBERS:
            raise InputError(f"{name!r} is not a numeric field of a record; those are {', '.join(NUMBERS)}")
    chosen = [r for r in records if annealed is None or r["annealed"] is annealed]
    if not chosen:
        raise InputError(f"none of {len(records)} records has annealed={annealed}")
    for record in chosen:
        if record["started_from"]:
            raise InputError(f"record {record['id']!r} began from the weights of {record['started_from']}: it is no "
                             "point of a law; leave it out")
    for name in (n, d, loss):
        for record in chosen:
            if record[name] is None:
                raise InputError(f"record {record['id']!r} has no {name!r}")
    if "flops" in (n, d) and len({r["flops_version"] for r in chosen}) > 1:
        raise InputError("records count flops by different flops_version; recompute them before fitting in flops")
    roots = groups(records)
    return table([r[n] for r in chosen], [r[d] for r in chosen], [r[loss] for r in chosen],
                 group=[roots[r["id"]] for r in chosen], annealed=np.array([r["annealed"] for r in chosen]),
                 unit_n=n, unit_d=d, unit_loss=loss, notes=disagreements(chosen))


def groups(records: list[Json]) -> dict[str, str]:
    """Record id → id of the run it descends from (branches of branches included)."""
    parent = {r["id"]: r["branch_of"] for r in records}

    def root(name: str) -> str:
        seen = {name}
        while (above := parent.get(name)) is not None:
            if above in seen:
                raise InputError(f"record {name!r} descends from itself through branch_of")
            seen.add(name := above)
        return name

    return {name: root(name) for name in parent}


def disagreements(records: list[Json]) -> tuple[str, ...]:
    """One line for each property that points of one law should share and these do not."""
    notes = []
    for name in MUST_AGREE:
        values = sorted({str(r[name]) for r in records})
        if len(values) > 1:
            notes.append(f"{name} varies: {', '.join(values)}")
    cooldowns = sorted({round(r["cooldown_fraction"], 3) for r in records if r["annealed"]})
    if len(cooldowns) > 1:
        notes.append(f"cooldown_fraction varies: {', '.join(map(str, cooldowns))}")
    return tuple(notes)


def hold_out_largest(records: list[Json], by: str = "n_core") -> tuple[list[Json], list[Json]]:
    """(kept, held): held is every run, with all its branches, that reaches the largest value of `by`."""
    if not records:
        raise InputError("no records to hold out from")
    roots, top = groups(records), max(r[by] for r in records)
    largest = {roots[r["id"]] for r in records if r[by] == top}
    return ([r for r in records if roots[r["id"]] not in largest], [r for r in records if roots[r["id"]] in largest])


def repeats(records: Iterable[Json]) -> list[list[Json]]:
    """The records by what they share; those of one cell differ in seed alone."""
    cells: dict[tuple, list[Json]] = {}
    for r in records:
        cell = (r["model"], r["n_core"], r["clips"], r["annealed"], r["lr"], r["batch"], r["cooldown_fraction"])
        cells.setdefault(cell, []).append(r)
    return list(cells.values())


def seed_noise(records: list[Json], loss: str = "val_loss") -> tuple[float, int]:
    """(sigma, degrees of freedom): pooled standard deviation of log loss among records that differ in seed alone;
    (nan, 0) without repeats."""
    cells = [[math.log(r[loss]) for r in cell] for cell in repeats(records)]
    freedom = sum(len(cell) - 1 for cell in cells)
    if not freedom:
        return math.nan, 0
    return math.sqrt(sum(np.var(cell) * len(cell) for cell in cells) / freedom), freedom


def _dumps(value: Any, where: str) -> str:
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False, ensure_ascii=False,
                          default=lambda x: x.item() if isinstance(x, np.generic) else x.tolist())
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{where}: cannot be written as JSON ({error}); a missing figure is null, not nan") from None


def _unique(records: list[Json], where: str) -> None:
    seen = set()
    for record in records:
        if record["id"] in seen:
            raise InputError(f"{where}: id {record['id']!r} occurs twice; a run is recorded once")
        seen.add(record["id"])


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)  # the folder is the lock: a lock file would be litter beside records
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _replace(path: Path, rows: list[Json]) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.writelines(_dumps(row, str(path)) + "\n" for row in rows)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
