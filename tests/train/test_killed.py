"""Killing a run changes no bit of what it leaves: SIGKILL in a child process, at chosen calls and at random times."""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import fabricated
import jax
import pytest

from sora_jax.scaling import records as ledger
from sora_jax.weights import load_weights

ROOT = Path(__file__).resolve().parents[2]
CLIPS = 160
OF_THE_CLOCK = ("train_seconds", "commit")  # the tree may be edited while the tests run
ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
               "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
               "PYTHONPATH": str(ROOT)}

KILLER = """
import os, signal, sys
import jax
from launch import door, train
from sora_jax import checkpoint, disk, report, weights
from sora_jax.scaling import records

where, count = sys.argv[1].split(":")
seen = 0

def deadly(call):
    def counted(*arguments, **options):
        global seen
        seen += 1
        if seen == int(count):
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    return counted

def cold(call):
    def forgetful(*arguments, **options):
        point = call(*arguments, **options)
        return point and point._replace(state=point.state._replace(
            opt=jax.tree.map(lambda leaf: leaf * 0, point.state.opt)))
    return forgetful

if where == "cold":
    checkpoint.Checkpoints.restore = cold(checkpoint.Checkpoints.restore)
elif where != "never":
    owner, name = {"save": (disk, "seal"), "row": (report.Writer, "write_scalars"),
                   "weights": (weights, "save_weights"), "record": (records, "append"),
                   "prune": (checkpoint.Checkpoints, "_prune")}[where]
    setattr(owner, name, deadly(getattr(owner, name)))
door.main(train.run, ["train", *sys.argv[2:]])
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return fabricated.latents(tmp_path_factory.mktemp("latents"))


def start(cache, folder, fate="never:0"):
    """The training door in a process of its own that kills itself at the given call."""
    arguments = ["--config=configs/smoke.py:dit", f"--config.data.path={cache}", f"--config.train.clips={CLIPS}",
                 f"--workdir={folder}"]
    return subprocess.Popen([sys.executable, "-c", KILLER, fate, *arguments], cwd=ROOT, text=True,
                            env={**os.environ, **ENVIRONMENT}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def end(process):
    out, errors = process.communicate(timeout=600)
    return process.returncode, out, errors


def left(folder):
    """All that must be equal: hashes of the weights, records and rows of metrics but for the clock."""
    hashes = {path.name: load_weights(path)[1]["hash"] for path in sorted(folder.glob("*.safetensors"))}
    records = ledger.read(folder / "records.jsonl")
    found = [{k: v for k, v in record.items() if k not in OF_THE_CLOCK} for record in records]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return hashes, found, [{name: value for name, value in row.items() if name != "time"} for row in rows]


def well(process):
    code, _, errors = end(process)
    assert code == 0, errors


@pytest.fixture(scope="module")
def children(cache, tmp_path_factory):
    """Folders of three runs: U goes through; R is killed with SIGKILL while it seals a checkpoint, and again when its
    first record is to be written, and goes on; C goes on from the first kill with an optimiser that forgot.
    Two processes at a time."""
    root = tmp_path_factory.mktemp("children")
    through, killed = start(cache, root / "U"), start(cache, root / "R", "save:3")
    assert end(killed)[0] == -signal.SIGKILL and list((root / "R" / "checkpoints").glob("[0-9]*"))
    well(through)
    shutil.copytree(root / "R", root / "C")
    forgetful, killed = start(cache, root / "C", "cold:0"), start(cache, root / "R", "record:1")
    assert end(killed)[0] == -signal.SIGKILL and not (root / "R" / "records.jsonl").exists()
    well(forgetful)
    well(start(cache, root / "R"))
    return root


@pytest.fixture(scope="module")
def uninterrupted(children):
    return left(children / "U")


def test_killed_is_uninterrupted_and_cold_is_not(children, uninterrupted):
    hashes, found, rows = left(children / "R")
    assert len(hashes) == len(found) == 2 and len(rows) > 20
    assert (hashes, found) == uninterrupted[:2] and sorted(map(str, rows)) == sorted(map(str, uninterrupted[2]))
    forgotten = left(children / "C")
    assert not set(forgotten[0].values()) & set(hashes.values()) and forgotten[1] != found and forgotten[2] != rows
    assert not list((children / "R").glob("branch-10"))
    assert not [path for name in (".saving-*", "bad-*") for path in (children / "R").rglob(name)]


@pytest.mark.slow
@pytest.mark.parametrize("fate", ["save:1", "row:2", "row:21", "prune:2", "save:5", "weights:2", "row:11", "weights:1"])
def test_wherever_it_is_killed(cache, uninterrupted, tmp_path, fate):
    assert end(start(cache, tmp_path, fate))[0] == -signal.SIGKILL
    well(start(cache, tmp_path))
    hashes, found, rows = left(tmp_path)
    assert (hashes, found) == uninterrupted[:2] and sorted(map(str, rows)) == sorted(map(str, uninterrupted[2]))


@pytest.mark.slow
def test_whenever_it_is_killed(cache, uninterrupted, tmp_path):
    """Eight kills at random times, start-up included; what is there at the end is what one run leaves."""
    rng, kills = random.Random(0), 0
    while kills < 8:
        process = start(cache, tmp_path)
        time.sleep(rng.uniform(2, 12))
        if process.poll() is not None:
            break
        process.kill()
        process.communicate()
        kills += 1
    well(start(cache, tmp_path))
    assert kills
    hashes, found, rows = left(tmp_path)
    assert (hashes, found) == uninterrupted[:2] and sorted(map(str, rows)) == sorted(map(str, uninterrupted[2]))
