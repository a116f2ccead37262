"""Which files, with which captions: a folder with sidecar `.txt` files, or a manifest, as a list of `Row`.

Manifests are CSV, TSV, JSONL or Parquet. Columns: `path` (or `video`, `file`), relative to the folder of the videos;
`caption` (or `text`), a string or, in JSONL and Parquet, a list of paraphrases; optional `start` and `end` in seconds.
A row that makes no sense is kept with its fault; a manifest that does not is an InputError.
"""
import csv
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sora_jax.types import InputError

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
MANIFESTS = (".csv", ".tsv", ".jsonl", ".parquet")
SYNONYMS = {"path": ("path", "video", "file"), "caption": ("caption", "text"), "start": ("start",), "end": ("end",)}
SPLITS = ("train", "val", "all")
CAPTION = 16_384  # characters that are kept of a caption
BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


class Row(NamedTuple):
    """One entry. `captions` None: look for a sidecar. `line` 0: from a scanned folder. `fault`: why the row is bad."""

    name: str
    captions: tuple[str, ...] | None = None
    start: float = 0.0
    end: float = math.inf
    line: int = 0
    fault: str = ""


def clean(text: Any) -> str:
    """One line of valid text: runs of blanks and control characters become one blank, lone surrogates a "?"."""
    return BLANK.sub(" ", str(text)[:CAPTION].encode("utf-8", "replace").decode()).strip()


def scan(root: Path) -> list[Row]:
    """Every file below `root` with a video suffix, hidden ones left out, sorted by name."""
    names = []
    for folder, inside, files in os.walk(root):
        inside[:] = [name for name in inside if not name.startswith(".")]
        names += [os.path.relpath(os.path.join(folder, name), root) for name in files
                  if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
    if not names:
        raise InputError(f"no video files ({', '.join(SUFFIXES)}) in {str(root)!a}; set data.path to their folder")
    return [Row(name) for name in sorted(names)]


def listed(path: Path) -> list[Row]:
    """The rows of a manifest. Raises InputError naming the missing column, the line or the cause."""
    rows, columns = [], {}
    for line, record in records(path):
        if record is None:
            rows.append(Row("", line=line, fault="not a JSON object"))
            continue
        if not columns:
            columns = {key: next((name for name in names if name in record), None) for key, names in SYNONYMS.items()}
        for key in ("path", "caption"):
            if columns[key] is None:
                has = ", ".join(ascii(name) for name in record)
                raise InputError(f"data.manifest {str(path)!a} has no column {key!r} (or {SYNONYMS[key][1]!r}); "
                                 f"it has {has}: rename one")
        rows.append(checked(line, *(record.get(columns[key]) for key in SYNONYMS)))
    if not rows:
        raise InputError(f"data.manifest {str(path)!a} has no rows; write one line per video under its header")
    return rows


def records(path: Path) -> Iterator[tuple[int, dict | None]]:
    """(line number, record) of a manifest; a JSONL line that is not an object comes as None. Raises InputError."""
    if path.suffix not in MANIFESTS:
        raise InputError(f"data.manifest {str(path)!a} must end in {', '.join(MANIFESTS)}")
    if path.suffix == ".parquet":
        yield from enumerate(parquet(path), 1)
        return
    try:
        with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
            if path.suffix == ".jsonl":
                yield from ((line, parse(text)) for line, text in enumerate(file, 1) if text.strip())
            else:
                reader = csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ",", skipinitialspace=True)
                yield from ((reader.line_num, record) for record in reader)
    except (OSError, csv.Error) as error:
        raise InputError(f"cannot read data.manifest {str(path)!a}: {error}") from error


def parse(text: str) -> dict | None:
    """A JSON object, or None."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def parquet(path: Path) -> list[dict]:
    """The rows of a Parquet file, the columns that we know."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise InputError(f"reading {path.name!a} needs pyarrow: pip install 'sora_jax[parquet]'") from error
    try:
        with ParquetFile(path) as file:
            known = [name for name in file.schema_arrow.names if any(name in names for names in SYNONYMS.values())]
            return file.read(columns=known or file.schema_arrow.names[:1]).to_pylist()
    except (OSError, ArrowException) as error:
        raise InputError(f"cannot read data.manifest {str(path)!a}: {str(error).splitlines()[0]}") from error


def checked(line: int, name: Any, caption: Any, start: Any, end: Any) -> Row:
    """One manifest row, checked for sense but not against the disk."""
    captions = tuple(clean(one) for one in (caption if isinstance(caption, list) else [caption]) if one is not None)
    made = Row(str(name or ""), captions or ("",), line=line)
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        return made._replace(fault="no path")
    try:
        start, end = seconds(start, 0.0), seconds(end, math.inf)
    except (TypeError, ValueError):
        return made._replace(fault=f"start {start!a} or end {end!a} is not a number of seconds")
    if not 0 <= start < end:
        return made._replace(fault=f"start {start} and end {end} enclose no time")
    return made._replace(start=start, end=end)


def seconds(value: Any, default: float) -> float:
    """A time; empty, null and NaN are the default. Raises TypeError or ValueError."""
    number = default if value is None or value == "" else float(value)
    return default if math.isnan(number) else number


def chosen(rows: list[Row], split: str, held_out: float) -> list[Row]:
    """The rows of a split: the `held_out` part of the files with the lowest name hashes is "val", the rest "train".

    All rows of a file fall on one side. If the part rounds to no file, nothing is held out and each split is all.
    """
    names = sorted({row.name for row in rows}, key=lambda name: (hashed(name), name))
    held = set(names[:round(len(names) * held_out)])
    if split == "all" or not held:
        return rows
    return [row for row in rows if (row.name in held) == (split == "val")]


def hashed(text: str) -> int:
    """A uniform 64-bit integer from a text, the same everywhere."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def sidecar(path: Path) -> str:
    """The caption in the `.txt` file beside a video, empty without one."""
    path = path.with_suffix(".txt")
    if not path.is_file():
        return ""
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        return clean(file.read(CAPTION))
