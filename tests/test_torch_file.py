"""Torch files of both formats, written here byte by byte: arrays come back, and nothing else gets in."""
import collections
import io
import os
import pickle
import struct
import sys
import types
import zipfile
import zlib

import numpy as np
import pytest

from sora_jax import torch_file
from sora_jax.types import InputError

STORAGES = {np.dtype(dtype): name for name, dtype in torch_file.DTYPES.items()}
ARRAYS = {"a.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "b": np.array(7, np.int64),
          "c": np.array([True, False]), "d": np.zeros((0, 3), np.float16)}


@pytest.fixture
def torch(monkeypatch):
    """Just enough of a module named torch for pickle to write its names."""
    fake, inner = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in torch_file.DTYPES:
        setattr(fake, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2(*_):
        raise AssertionError("the reader must not call this")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    inner._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", fake)
    monkeypatch.setitem(sys.modules, "torch._utils", inner)
    return fake


class Tensor:
    """A view of `data` as torch pickles it."""

    def __init__(self, data, key, shape=None, strides=None, offset=0):
        self.data, self.key, self.offset = data, key, offset
        self.shape = data.shape if shape is None else shape
        self.strides = tuple(s // data.itemsize for s in data.strides) if strides is None else strides


def pickled(value, torch, view=True):
    class Writer(pickle.Pickler):
        def reducer_override(self, leaf):
            if not isinstance(leaf, Tensor):
                return NotImplemented
            rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
            return rebuild, (leaf.data, leaf.offset, leaf.shape, leaf.strides, False, collections.OrderedDict())

        def persistent_id(self, leaf):
            if not isinstance(leaf, np.ndarray):
                return None
            pid = ("storage", getattr(torch, STORAGES[leaf.dtype]), keys[id(leaf)], "cpu", leaf.size)
            return (*pid, None) if view else pid

    keys = {id(leaf.data): leaf.key for leaf in value.values() if isinstance(leaf, Tensor)}
    buffer = io.BytesIO()
    Writer(buffer, 2).dump(value)
    return buffer.getvalue()


def stream(value, torch):
    kept = {leaf.key: leaf.data for leaf in value.values() if isinstance(leaf, Tensor)}
    info = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [pickle.dumps(part, 2) for part in (torch_file.MAGIC, torch_file.PROTOCOL, info)]
    parts += [pickled(value, torch), pickle.dumps(sorted(kept), 2)]
    return b"".join(parts + [struct.pack("<q", kept[key].size) + kept[key].tobytes() for key in sorted(kept)])


def zipped(value, torch, order=b"little", short=0):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("net/data.pkl", pickled(value, torch, view=False))
        archive.writestr("net/byteorder", order)
        for key, data in {leaf.key: leaf.data.tobytes() for leaf in value.values()}.items():
            archive.writestr(f"net/data/{key}", data[:len(data) - short])
    return buffer.getvalue()


def tensors(arrays):
    return collections.OrderedDict((name, Tensor(array, str(i))) for i, (name, array) in enumerate(arrays.items()))


def read(tmp_path, data):
    path = tmp_path / "net.pth"
    path.write_bytes(data)
    return torch_file.read(path)


def refusal(tmp_path, data):
    with pytest.raises(InputError) as caught:
        read(tmp_path, data)
    assert "\n" not in str(caught.value) and "net.pth" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("layout", [stream, zipped])
def test_arrays_come_back(tmp_path, torch, layout):
    found = read(tmp_path, layout(tensors(ARRAYS), torch))
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("layout", [stream, zipped])
def test_views_of_one_storage(tmp_path, torch, layout):
    data = np.arange(12, dtype=np.float32)
    value = {"whole": Tensor(data, "0", (3, 4), (4, 1)), "turned": Tensor(data, "0", (4, 3), (1, 4)),
             "part": Tensor(data, "0", (2, 2), (4, 1), 5)}
    found = read(tmp_path, layout(value, torch))
    np.testing.assert_array_equal(found["turned"], data.reshape(3, 4).T)
    np.testing.assert_array_equal(found["part"], [[5, 6], [9, 10]])
    assert found["part"].flags.owndata and found["part"].flags.writeable


@pytest.mark.parametrize("layout", [stream, zipped])
@pytest.mark.parametrize("shape, strides, offset", [((13,), (1,), 0), ((2, 7), (7, 1), 0), ((2,), (1,), 11),
                                                    ((2,), (-1,), 3), ((1000, 1000), (0, 0), 0), ((2, 2), (1,), 0)])
def test_a_view_beyond_its_storage_is_refused(tmp_path, torch, layout, shape, strides, offset):
    data = np.arange(12, dtype=np.float32)
    said = refusal(tmp_path, layout({"x": Tensor(data, "0", shape, strides, offset)}, torch))
    assert "beyond its storage" in said or "make no sense" in said


class Command:
    def __reduce__(self):
        return os.mkdir, ("planted",)


class Code:
    def __reduce__(self):
        return eval, ("1 + 1",)


@pytest.mark.parametrize("planted, name", [(Command(), "posix.mkdir"), (Code(), "__builtin__.eval")])
@pytest.mark.parametrize("layout", [stream, zipped])
def test_a_name_that_is_not_a_tensors_is_refused_before_it_is_called(tmp_path, torch, layout, planted, name,
                                                                     monkeypatch):
    monkeypatch.chdir(tmp_path)
    value = tensors({"a": np.ones(2, np.float32)})
    data = layout(value, torch)
    inner = pickled(value, torch, view=layout is stream)
    evil = pickled({**value, "z": planted}, torch, view=layout is stream)
    if layout is stream:
        data = data.replace(inner, evil)
    else:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("net/data.pkl", evil)
        data = buffer.getvalue()
    assert f"names {name}, which is not a tensor's" in refusal(tmp_path, data)
    assert not (tmp_path / "planted").exists()


def test_a_file_cut_anywhere_is_one_line(tmp_path, torch):
    for layout in (stream, zipped):
        data = layout(tensors(ARRAYS), torch)
        for size in range(0, len(data) - 1, 7):
            refusal(tmp_path, data[:size])


def packed(data, method=zipfile.ZIP_DEFLATED):
    """A zip whose only entry is `data` as data.pkl, and where the entry's bytes begin."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("net/data.pkl", data)
    return bytearray(buffer.getvalue()), 30 + len("net/data.pkl")


def test_a_damaged_compressed_pickle_is_one_line(tmp_path, torch):
    inner = pickled(tensors(ARRAYS), torch, view=False)
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        data, start = packed(inner, method)
        for place in range(start, start + 60, 3):
            refusal(tmp_path, data[:place] + b"\xff" * 8 + data[place + 8:])
    data, start = packed(inner)
    data[start] |= 6  # a block type that deflate does not have
    with pytest.raises(zlib.error):
        zlib.decompress(data[start:], -15)
    assert "invalid block type" in refusal(tmp_path, data)


def test_an_encrypted_pickle_is_refused(tmp_path, torch):
    data, _ = packed(pickled(tensors(ARRAYS), torch, view=False))
    data[6] |= 1  # the flag in the entry's own header, then in the directory
    data[data.index(b"PK\x01\x02") + 8] |= 1
    assert "encrypted" in refusal(tmp_path, data)


@pytest.mark.parametrize("layout", [stream, zipped])
@pytest.mark.parametrize("other", [np.arange(4, dtype=np.int32), np.arange(3, dtype=np.float32)])
def test_one_storage_of_two_kinds_is_refused(tmp_path, torch, layout, other):
    data = np.arange(4, dtype=np.float32)
    for first, second in ((data, other), (other, data)):
        value = {"x": Tensor(first, "0", (2,), (1,)), "y": Tensor(second, "0", (2,), (1,))}
        assert "its tensors disagree about storage '0'" in refusal(tmp_path, layout(value, torch))


def test_other_things_are_refused(tmp_path, torch):
    assert "not a torch file" in refusal(tmp_path, b"RIFF" + bytes(100))
    assert "big-endian" in refusal(tmp_path, zipped(tensors(ARRAYS), torch, order=b"big"))
    info = {"little_endian": False}
    start = b"".join(pickle.dumps(part, 2) for part in (torch_file.MAGIC, torch_file.PROTOCOL, info))
    assert "big-endian" in refusal(tmp_path, start)
    assert "its 'epoch' is a int, not a tensor" in refusal(tmp_path, stream({**tensors(ARRAYS), "epoch": 3}, torch))
    assert "it does not begin like one" in refusal(tmp_path, pickle.dumps(3))
    data = np.arange(4, dtype=np.float32)
    assert "another size" in refusal(tmp_path, zipped({"x": Tensor(data, "0")}, torch, short=4))
    with pytest.raises(InputError, match="none.pth: No such file"):
        torch_file.read(tmp_path / "none.pth")
