"""Whole or absent; sealed; held by one."""
import os
import pathlib
import subprocess
import sys

import pytest

from sora_jax import disk
from sora_jax.types import InputError


def test_a_failed_write_leaves_the_old_bytes_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    disk.write(path, b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        disk.write(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.json"]


def test_only_an_empty_folder_is_fresh(tmp_path):
    assert disk.fresh(tmp_path / "new") == tmp_path / "new" and disk.fresh(tmp_path) == tmp_path
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="file is a file; give a new folder"):
        disk.fresh(tmp_path / "file")
    with pytest.raises(InputError, match="is not empty; give a new folder"):
        disk.fresh(tmp_path)


@pytest.fixture
def sealed(tmp_path):
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "e" / "x").write_bytes(bytes(range(256)) * 5000)
    (tmp_path / "y").write_bytes(b"")
    disk.seal(tmp_path, {"step": 3})
    return tmp_path


def test_a_sealed_folder_is_what_it_was(sealed):
    assert disk.damage(sealed) is None
    assert disk.manifest(sealed)["step"] == 3 and set(disk.manifest(sealed)["files"]) == {"d/e/x", "y"}


def relabel(path):
    path.write_bytes(path.read_bytes().replace(b'"step": 3', b'"step": 4'))


@pytest.mark.parametrize("harm, words", [
    (lambda f: (f / "d/e/x").write_bytes((f / "d/e/x").read_bytes()[:-1]), r"d/e/x is damaged \(1279999 of 1280000"),
    (lambda f: (f / "y").write_bytes(b"z"), r"y is damaged \(1 of 0"),
    (lambda f: (f / "y").unlink(), "y is missing"),
    (lambda f: (f / disk.MANIFEST).unlink(), "no readable MANIFEST"),
    (lambda f: relabel(f / disk.MANIFEST), "no readable"),
    (lambda f: (f / disk.MANIFEST).write_bytes(b"\xff\xfe"), "no readable"),
])
def test_every_harm_is_seen(sealed, harm, words):
    harm(sealed)
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(disk.damage(sealed))


def test_every_flipped_bit_is_seen(sealed):
    path = sealed / "d/e/x"
    data = bytearray(path.read_bytes())
    for at in range(0, len(data), 40_009):
        data[at] ^= 1 << at % 8
        path.write_bytes(data)
        assert disk.damage(sealed) == "file d/e/x is damaged"
        data[at] ^= 1 << at % 8


HOLDER = """
import sys
from sora_jax import disk
try:
    with disk.hold(sys.argv[1]):
        print("held", flush=True)
        sys.stdin.read()
except disk.InputError as error:
    print(f"error: {error}")
    sys.exit(2)
"""


def holder(folder):
    return subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            text=True, env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[1])})


def test_the_second_writer_is_refused_and_told_who_the_first_is(tmp_path):
    first = holder(tmp_path / "run")
    assert first.stdout.readline() == "held\n"
    second = holder(tmp_path / "run")
    out, _ = second.communicate(timeout=30)
    assert second.returncode == 2 and out.count("\n") == 1
    assert f"process {first.pid} on " in out and "is being written by" in out
    with pytest.raises(InputError, match=f"process {first.pid}"), disk.hold(tmp_path / "run"):
        pass
    first.kill()
    first.wait()
    with disk.hold(tmp_path / "run"):
        assert f"process {os.getpid()} " in (tmp_path / "run" / "run.lock").read_text()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"), disk.hold(tmp_path / "file" / "run"):
        pass
