"""Files that are whole or absent, folders that know what they held, and one writer at a time.

A file is written aside, synced and renamed. A sealed folder holds a manifest (size and crc32 of every file, and a
record), written last. A held folder has a lock that the kernel frees when its process ends, however it ends.
"""
import contextlib
import fcntl
import json
import logging
import os
import socket
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from sora_jax.types import InputError

CHUNK = 1 << 20
MANIFEST = "MANIFEST.json"
log = logging.getLogger(__name__)


class Held(InputError):
    """Another process has the right to write."""


def sync(folder: Path) -> None:
    """Make the entries of a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write(path: Path, data: bytes) -> None:
    """Replace `path` by `data`: after a crash it holds the old bytes or the new, never a part."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(aside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    sync(path.parent)


def fresh(folder: str | os.PathLike) -> Path:
    """`folder` if it is empty or not there yet; else InputError, so that nothing in it is written over."""
    path = Path(folder)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path} is {'not empty' if path.is_dir() else 'a file'}; give a new folder")
    return path


def checksum(path: Path, durable: bool = False) -> tuple[int, int]:
    """(size in bytes, crc32); `durable` also syncs the file."""
    size = crc = 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            size, crc = size + len(chunk), zlib.crc32(chunk, crc)
        if durable:
            os.fsync(file.fileno())
    return size, crc


def seal(folder: Path, record: dict[str, Any]) -> None:
    """Sync everything in `folder`, then write the manifest: checksums of all files, and the JSON-able `record`."""
    paths = sorted(folder.rglob("*"))
    files = {str(path.relative_to(folder)): checksum(path, durable=True) for path in paths if path.is_file()}
    for path in paths:
        if path.is_dir():
            sync(path)
    write_manifest(folder, {**record, "files": files})


def write_manifest(folder: Path, record: dict[str, Any]) -> None:
    """Replace the manifest; its first line is the crc32 of the rest."""
    text = json.dumps(record)
    write(folder / MANIFEST, f"{zlib.crc32(text.encode())}\n{text}".encode())


def manifest(folder: Path) -> dict[str, Any] | None:
    """The record a folder was sealed with and its "files"; None if it is absent or damaged."""
    try:
        crc, text = (folder / MANIFEST).read_text().split("\n", 1)
        return json.loads(text) if int(crc) == zlib.crc32(text.encode()) else None
    except (OSError, ValueError):
        return None


def damage(folder: Path) -> str | None:
    """What is wrong with a sealed folder, in words; None if every file is what the manifest says."""
    if not folder.is_dir():
        return "not there"
    found = manifest(folder)
    if found is None:
        return f"no readable {MANIFEST}"
    for name, (size, crc) in found["files"].items():
        if not (folder / name).is_file():
            return f"file {name} is missing"
        have = checksum(folder / name)
        if have != (size, crc):
            return f"file {name} is damaged" + (f" ({have[0]} of {size} bytes)" if have[0] != size else "")
    return None


@contextlib.contextmanager
def hold(folder: str | os.PathLike) -> Iterator[None]:
    """Hold the one right to write into `folder` (made if absent) for the length of the block; the first host does so.

    Raises Held naming the holder if another process has it, InputError saying why the folder cannot be written.
    """
    if jax.process_index() != 0:
        yield
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        handle = os.open(Path(folder) / "run.lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}); choose another folder") from error
    with os.fdopen(handle, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Held(f"{folder} is being written by {file.read().strip() or 'another process'}; "
                       "wait for it, stop it, or choose another folder") from None
        except OSError as error:
            log.warning("%s: no file locks here (%s), so nothing stops a second writer", folder, error.strerror)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        file.flush()
        yield
