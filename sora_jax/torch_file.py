"""Tensors of a torch checkpoint, in its old stream format or its zip format, without torch and without trust.

Enters: a `.pth` file that holds a dictionary of tensors. Leaves: arrays by name. A pickle may name five constructors
and the storage types below; any other name is refused before anything is called, and no view may leave its storage.
"""
import collections
import io
import lzma
import math
import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from sora_jax.types import InputError

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
DTYPES = {
    "DoubleStorage": np.float64, "FloatStorage": np.float32, "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16, "LongStorage": np.int64, "IntStorage": np.int32, "ShortStorage": np.int16,
    "CharStorage": np.int8, "ByteStorage": np.uint8, "BoolStorage": np.bool_,
}
DAMAGE = (AssertionError, AttributeError, EOFError, IndexError, KeyError, MemoryError, OverflowError, RuntimeError,
          TypeError, UnicodeDecodeError, ValueError, lzma.LZMAError, pickle.UnpicklingError, struct.error,
          zipfile.BadZipFile, zlib.error)


class Storage(NamedTuple):
    """A run of numbers that tensors are views of."""

    dtype: np.dtype
    key: str
    numel: int


class View(NamedTuple):
    """A tensor, before its storage is read; offset and strides in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Refused(pickle.UnpicklingError):
    """A pickle that names something it has no business with."""


def _view(storage, offset, shape, strides, *_):
    return View(storage, offset, tuple(shape), tuple(strides))


def _parameter(view, *_):
    return view


KNOWN = {("collections", "OrderedDict"): collections.OrderedDict, ("torch._utils", "_rebuild_tensor_v2"): _view,
         ("torch._utils", "_rebuild_tensor"): _view, ("torch._utils", "_rebuild_parameter"): _parameter,
         ("torch", "Size"): tuple}


class Reader(pickle.Unpickler):
    """An unpickler of a closed set of names; `met` are the storages that were referred to, by key."""

    def __init__(self, file: io.BufferedIOBase):
        super().__init__(file)
        self.met: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """One of `KNOWN`, or a storage's dtype. Raises Refused."""
        if (module, name) in KNOWN:
            return KNOWN[module, name]
        if module == "torch" and name in DTYPES:
            return np.dtype(DTYPES[name])
        raise Refused(f"it names {module}.{name}, which is not a tensor's")

    def persistent_load(self, pid: Any) -> Storage:
        """The storage that a tensor refers to."""
        kind, dtype, key, _, numel, *rest = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or any(part is not None for part in rest):
            raise Refused(f"it refers to a {ascii(kind)} that is not a whole storage")
        storage = Storage(dtype, str(key), int(numel))
        if self.met.setdefault(storage.key, storage) != storage:
            raise Refused(f"its tensors disagree about storage {ascii(storage.key)}")
        return storage


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays by name. Raises InputError naming the file and what is wrong: absent, damaged, or with anything else in it
    than a dictionary of tensors."""
    try:
        with open(path, "rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"
            file.seek(0)
            found, storages = (_zipped if zipped else _stream)(file)
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}, not a dictionary of tensors")
        wrong = next((name for name, leaf in found.items() if not isinstance(leaf, View)), None)
        if wrong is not None:
            raise ValueError(f"its {ascii(wrong)} is a {type(found[wrong]).__name__}, not a tensor")
        return {str(name): _array(view, storages) for name, view in found.items()}
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except DAMAGE as error:
        said = " ".join(str(error).split()) or type(error).__name__
        said = f"it lacks {said}" if isinstance(error, KeyError) else said
        raise InputError(f"{path} is not a torch file that can be read: {said}") from error


def _stream(file: io.BufferedIOBase) -> tuple[Any, dict[str, np.ndarray]]:
    if Reader(file).load() != MAGIC or Reader(file).load() != PROTOCOL:
        raise ValueError("it does not begin like one")
    if Reader(file).load().get("little_endian") is not True:
        raise ValueError("it was written on a big-endian machine")
    reader, storages = Reader(file), {}
    found = reader.load()
    for key in Reader(file).load():
        storage = reader.met[str(key)]
        (numel,) = struct.unpack("<q", file.read(8))
        size = numel * storage.dtype.itemsize
        data = file.read(size) if numel == storage.numel else b""
        if numel != storage.numel or len(data) != size:
            raise ValueError("it is cut short")
        storages[storage.key] = np.frombuffer(data, storage.dtype)
    return found, storages


def _zipped(file: io.BufferedIOBase) -> tuple[Any, dict[str, np.ndarray]]:
    with zipfile.ZipFile(file) as archive:
        entries = {name.partition("/")[2]: name for name in archive.namelist()}
        if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
            raise ValueError("it was written on a big-endian machine")
        with archive.open(entries["data.pkl"]) as pickled:
            reader, storages = Reader(pickled), {}
            found = reader.load()
        for key, storage in reader.met.items():
            entry = archive.getinfo(entries[f"data/{key}"])
            if entry.compress_type or entry.file_size != storage.numel * storage.dtype.itemsize:
                raise ValueError(f"its storage {key} has another size than its tensors say")
            storages[key] = np.frombuffer(archive.read(entry), storage.dtype)
    return found, storages


def _array(view: View, storages: dict[str, np.ndarray]) -> np.ndarray:
    """A copy of what the view shows; a view beyond its storage would read another's memory, so it is refused."""
    numbers = (view.offset, *view.shape, *view.strides)
    if len(view.shape) != len(view.strides) or any(not isinstance(n, int) or n < 0 for n in numbers):
        raise ValueError("a tensor's shape and strides make no sense")
    data, size = storages[view.storage.key], math.prod(view.shape)
    last = view.offset + sum((n - 1) * step for n, step in zip(view.shape, view.strides, strict=True))
    if size > len(data) or data.dtype != view.storage.dtype or size and last >= len(data):
        raise ValueError("a tensor reaches beyond its storage")
    if not size:
        return np.zeros(view.shape, data.dtype)
    steps = tuple(step * data.itemsize for step in view.strides)
    return np.lib.stride_tricks.as_strided(data[view.offset:], view.shape, steps, writeable=False).copy()
