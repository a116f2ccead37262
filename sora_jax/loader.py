"""From a source of items to global arrays, one batch per step.

Batch k is a pure function of (seed, k): position p = k * batch + row of an endless stream of per-epoch permutations
(grain's index shuffle) names the item, whatever the number of hosts, threads or restarts. Each host reads only the
rows its own devices hold. Enters: `len(source)` and `source[i]`, or `source.batch(indices)`. Leaves: `Batch`.
"""
import collections
import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grain
import jax
import numpy as np
from jax.sharding import Mesh

from sora_jax import mesh as meshes
from sora_jax.types import Batch, ConfigError, InputError

DEPTH = 2


def stack(items: Sequence[dict[str, np.ndarray]]) -> Batch:
    """The default collation: items are dicts with the fields of `Batch`."""
    return Batch(*(np.stack([item[name] for item in items]) for name in Batch._fields))


class Loader:
    """`batch(k)` reads, collates and places batch k; `iterate(start)` does so ahead of time in a thread.

    `collate` takes a list of items, or what `source.batch(indices)` returned if the source has that method, and gives
    a tree of numpy arrays with the rows first. `workers` threads read items of a source without `.batch`.
    """

    def __init__(self, source: Any, *, batch: int, seed: int, mesh: Mesh, collate: Callable = stack, start: int = 0,
                 workers: int = 4):
        shards = mesh.shape["data"] * mesh.shape["fsdp"]
        if batch < 1 or batch % shards:
            raise ConfigError(f"train.batch={batch} does not divide over mesh.data * mesh.fsdp = {shards}; "
                              f"use a multiple of {shards}")
        if not 0 <= seed < 2 ** 32:
            raise ConfigError(f"seed={seed} is out of range; give one in [0, 2^32)")
        if len(source) == 0:
            raise InputError(f"the data source {type(source).__name__} is empty; nothing to train on")
        self.source, self.size, self.collate, self.start = source, batch, collate, start
        self.sharding, self.workers = meshes.batch_sharding(mesh), workers
        self.order = grain.MapDataset.source(range(len(source))).seed(seed).shuffle().repeat()

    def indices(self, k: int, rows: Sequence[int] | None = None) -> list[int]:
        """The items of batch k, in order; or of some of its rows."""
        return [int(self.order[k * self.size + row]) for row in (range(self.size) if rows is None else rows)]

    def rows(self, devices: Sequence[jax.Device] | None = None) -> list[int]:
        """The rows of a batch that these devices (default: this host's) hold."""
        held = self.sharding.devices_indices_map((self.size,))
        here = self.sharding.addressable_devices if devices is None else devices
        return sorted({row for device in here for row in range(*held[device][0].indices(self.size))})

    def read(self, indices: Sequence[int]) -> Any:
        """These items as a tree of numpy arrays. Raises what the source raises, with the item named in a note."""
        if hasattr(self.source, "batch"):
            return self.collate(self.source.batch(list(indices)))
        if not self.workers:
            return self.collate([self._item(i) for i in indices])
        with ThreadPoolExecutor(self.workers) as pool:
            return self.collate(list(pool.map(self._item, indices)))

    def _item(self, index: int) -> Any:
        try:
            return self.source[index]
        except Exception as error:
            error.add_note(f"while reading item {index} of {type(self.source).__name__}")
            raise

    def batch(self, k: int) -> Any:
        """Batch k as global arrays split over the mesh; every host calls it and reads its own rows."""
        rows = self.rows()
        local = self.read(self.indices(k, rows))
        place = {row: at for at, row in enumerate(rows)}

        def globalise(x):
            if len(x) != len(rows):
                raise InputError(f"collate gave {len(x)} rows for {len(rows)} items of batch {k}")
            shape = (self.size, *x.shape[1:])

            def shard(index):
                return x[[place[row] for row in range(*index[0].indices(self.size))]]

            return jax.make_array_from_callback(shape, self.sharding, shard)

        return jax.tree.map(globalise, local)

    def iterate(self, start: int | None = None) -> Iterator[Any]:
        """Batches start, start + 1, ... for ever, read `DEPTH` ahead in a thread; closing the iterator ends it."""
        first = self.start if start is None else start
        with ThreadPoolExecutor(1, "loader") as pool:
            ahead = collections.deque(pool.submit(self.batch, first + i) for i in range(DEPTH))
            try:
                for k in itertools.count(first + DEPTH):
                    ready = ahead.popleft().result()
                    ahead.append(pool.submit(self.batch, k))
                    yield ready
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def together(loaders: Sequence[Loader], start: int) -> Iterator[Any]:
    """What each loader gives from batch `start` on: one batch if there is one loader, else a tuple of them."""
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(contextlib.closing(each.iterate(start))) for each in loaders]
        yield from streams[0] if len(streams) == 1 else zip(*streams, strict=True)
