"""Batch k is a pure function of (seed, k): of nothing else, whatever reads it."""
import itertools
import os
import pathlib
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import toy

from sora_jax import mesh
from sora_jax.loader import Loader, stack
from sora_jax.types import ConfigError, InputError


def loader(source=None, sizes=None, **changes):
    grid = mesh.make(**(sizes or {"data": 1}))
    return Loader(toy.Source() if source is None else source, **{"batch": 8, "seed": 5, "mesh": grid, **changes})


def same(a, b):
    for x, y in zip(mesh.fetch(a), mesh.fetch(b), strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_batch_is_read_in_any_order_and_on_any_mesh():
    one, many = loader(), loader(sizes={"data": 2, "fsdp": 4}, workers=0)
    late = one.batch(7)
    assert many.batch(7).x.sharding.is_equivalent_to(mesh.batch_sharding(many.sharding.mesh), 5)
    for k in (0, 7, 3):
        same(one.batch(k), many.batch(k))
    same(one.batch(7), late)


def test_every_epoch_is_a_new_permutation():
    found = loader()
    epochs = np.asarray([found.indices(k) for k in range(10)]).reshape(2, 40)
    assert all(sorted(epoch) == list(range(40)) for epoch in epochs.tolist())
    assert (epochs[0] != epochs[1]).any()


def test_the_seed_matters_and_a_huge_source_costs_nothing():
    class Huge(toy.Source):
        def __init__(self):
            self.size = 2 ** 40

    assert loader(seed=5).indices(0) != loader(seed=6).indices(0)
    indices = loader(Huge()).indices(10 ** 6)
    assert len(set(indices)) == 8 and max(indices) > 2 ** 32


def test_two_simulated_hosts_read_halves_of_the_batch_of_one():
    whole = loader(sizes={"data": 4, "fsdp": 2})
    devices = whole.sharding.mesh.devices.ravel()
    for hosts in (devices[:4], devices[4:]), (devices[::2], devices[1::2]):
        rows = [whole.rows(list(host)) for host in hosts]
        assert sorted(rows[0] + rows[1]) == list(range(8))
        read = {row: item for half in rows for row, item in zip(half, whole.indices(3, half), strict=True)}
        assert [read[row] for row in range(8)] == whole.indices(3)


def test_rows_are_shared_where_the_mesh_does_not_split_them():
    whole = loader(sizes={"data": 2, "tensor": 4})
    devices = whole.sharding.mesh.devices
    assert whole.rows(list(devices[0].ravel())) == whole.rows(list(devices[0].ravel()[:1])) == [0, 1, 2, 3]


CHILD = """
import sys, jax
jax.config.update("jax_num_cpu_devices", 2)
jax.distributed.initialize(sys.argv[1], num_processes=2, process_id=int(sys.argv[2]), initialization_timeout=60)
import numpy as np, toy
from sora_jax import mesh
from sora_jax.loader import Loader
batch = Loader(toy.Source(), batch=8, seed=5, mesh=mesh.make(fsdp=2)).batch(3)
print("local", [s.data.shape[0] for s in batch.x.addressable_shards])
whole = mesh.fetch(batch)
if sys.argv[2] == "0":
    np.savez(sys.argv[3], *whole)
"""


@pytest.mark.slow
def test_two_real_hosts_make_the_batch_of_one(tmp_path):
    root = pathlib.Path(__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": f"{root}:{root / 'tests'}", "JAX_PLATFORMS": "cpu"}
    address = f"127.0.0.1:{20000 + os.getpid() % 20000}"
    hosts = [subprocess.Popen([sys.executable, "-c", CHILD, address, str(i), str(tmp_path / "whole.npz")], env=env,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for i in range(2)]
    for host in hosts:
        out, err = host.communicate(timeout=120)
        assert host.returncode == 0, err[-2000:]
        assert "local [2, 2]" in out
    with np.load(tmp_path / "whole.npz") as whole:
        same(loader().batch(3), tuple(whole.values()))


def test_a_vectorised_source_gives_the_same_batches():
    class Vectorised(toy.Source):
        def batch(self, indices):
            return [self[int(i)] for i in indices]

        def __getitem__(self, i):
            return super().__getitem__(i)

    same(loader(Vectorised()).batch(2), loader().batch(2))


def test_collate_takes_arbitrary_items():
    class Words(toy.Source):
        def __getitem__(self, i):
            return f"item {i}"

    found = loader(Words(), collate=lambda items: {"length": np.asarray([len(item) for item in items])})
    assert found.batch(0)["length"].shape == (8,)
    with pytest.raises(InputError, match="3 rows for 8 items"):
        loader(collate=lambda items: stack(items[:3])).batch(0)


def running():
    return [thread for thread in threading.enumerate() if thread.name.startswith("loader")]


def test_iterating_gives_the_batches_in_order_and_stops_its_thread():
    found = loader(start=4)
    stream = found.iterate()
    for k, batch in zip(range(4, 9), stream, strict=False):
        same(batch, found.batch(k))
    assert running()
    stream.close()
    assert not running()
    same(next(found.iterate(2)), found.batch(2))


def test_reading_runs_ahead_but_not_away():
    seen = []

    class Watched(toy.Source):
        def batch(self, indices):
            seen.append(time.monotonic())
            return [self[int(i)] for i in indices]

    stream = loader(Watched()).iterate()
    next(stream)
    deadline = time.monotonic() + 5
    while len(seen) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    assert len(seen) == 3, "one taken, two ahead"
    stream.close()


def test_an_error_in_the_thread_arrives_in_order_with_its_item():
    class Bad(toy.Source):
        def __getitem__(self, i):
            if i == 11:
                raise OSError("the disk is gone")
            return super().__getitem__(i)

    found = loader(Bad())
    bad = next(k for k in range(5) if 11 in found.indices(k))
    stream = found.iterate()
    assert len(list(itertools.islice(stream, bad))) == bad
    with pytest.raises(OSError, match="disk is gone") as caught:
        next(stream)
    assert "item 11" in caught.value.__notes__[0] and not running()


def test_what_cannot_be_loaded_is_refused_in_words():
    with pytest.raises(ConfigError, match="multiple of 8"):
        loader(sizes={"data": 2, "fsdp": 4}, batch=12)
    with pytest.raises(ConfigError, match="seed=-1"):
        loader(seed=-1)
    with pytest.raises(InputError, match="empty"):
        loader(toy.Source(0))
