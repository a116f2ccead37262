"""A population: runs of one size that differ in their seeds and rates, trained in one compiled program.

Enters: their configs and a folder. Leaves, in a folder for each: what `loop.run` would have left there, to rounding
(batched products add up in another order). The state has an axis of members in front, split over the devices, but for
what counts updates. A killed population goes on from its last checkpoint; one that diverges stops no other.
"""
import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, traverse_util
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree
from ml_collections import ConfigDict

from sora_jax import build, checkpoint, disk, loader, report, validation
from sora_jax import mesh as meshes
from sora_jax.train import loop, recording, state, step
from sora_jax.train.state import TrainState
from sora_jax.types import ConfigError, InputError

FREE = ("name", "seed", "optimizer.lr")
MEMBERS = "population.json"
SPLIT = PartitionSpec("members")


def validate(configs: Sequence[ConfigDict]) -> None:
    """ConfigError naming the field that keeps these configs from being one population on this machine."""
    if not configs:
        raise ConfigError("a population without members; give at least one seed and one rate")
    first = _flat(configs[0])
    for config in configs:
        other = _flat(config)
        for field in sorted({*first, *other} - {*FREE}):
            if first.get(field) != other.get(field):
                raise ConfigError(f"{field} is {first.get(field)} and {other.get(field)}: members of a population "
                                  f"differ only in {', '.join(FREE)}; train these apart")
    if configs[0].stage != "dit":
        raise ConfigError(f"stage={configs[0].stage!r}: a population is of transformers; train these one by one")
    if build.lora_rank(configs[0]):
        raise ConfigError(f"lora.rank={configs[0].lora.rank}: a population has no adapters; train these apart")
    names = [config.name for config in configs]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"name={name!r} is that of {names.count(name)} members; each needs a folder of its own")
    validation.validate(configs[0])
    for config in configs[1:]:
        validation.check_numbers(config)
        validation.check_schedule(config)
    for axis, size in build.mesh(configs[0]).shape.items():
        if size > 1:
            raise ConfigError(f"mesh.{axis}={size}: no member of a population is split; set it to 1")


def _flat(config: ConfigDict) -> dict[str, Any]:
    return traverse_util.flatten_dict(config.copy_and_resolve_references().to_dict(), sep=".")


def own(config: ConfigDict, tx) -> TrainState:
    """The tree of the state, True for a leaf that each member has its own of: weights, their averages and moments."""
    _, shapes = state.split(lambda: build.make(config))
    marks = jax.tree.map(lambda _: True, nnx.to_pure_dict(shapes))
    return TrainState(False, marks, marks, state.moments(shapes, tx, marks, False))


def axes(own: TrainState) -> TrainState:
    """The same tree as `vmap` takes it."""
    return jax.tree.map(lambda mine: 0 if mine else None, own)


def spread(members: int) -> Mesh:
    """The devices that members share evenly: as many of this host's as divide their number."""
    devices = jax.local_devices()
    count = max(k for k in range(1, len(devices) + 1) if members % k == 0)
    return Mesh(np.array(devices[:count]), ("members",))


def shardings(mesh: Mesh, own: TrainState) -> TrainState:
    """Members split over the devices of a mesh, and what they share on each."""
    return jax.tree.map(lambda mine: NamedSharding(mesh, SPLIT if mine else PartitionSpec()), own)


def initial(config: ConfigDict, tx, mesh: Mesh, own: TrainState, seeds: Sequence[int]) -> TrainState:
    """Step 0 of every member, in the bits of its seed."""
    def draw(seed):
        return state.draw(lambda: build.make(config, jax.random.key(seed)), tx)

    made = jax.jit(jax.vmap(draw, out_axes=axes(own)), out_shardings=shardings(mesh, own))
    return made(jnp.array(seeds, jnp.uint32))


def placed(mesh: Mesh, batches: Sequence[PyTree]) -> PyTree:
    """The batches of all members as one tree with an axis of members, where they are needed."""
    whole = jax.tree.map(lambda *each: jnp.stack(each), *batches)
    return jax.device_put(whole, NamedSharding(mesh, SPLIT))


def compiled(config: ConfigDict, graph: nnx.GraphDef, tx, mesh: Mesh, own: TrainState,
             seeds: Sequence[int]) -> Callable:
    """`update(state, batches, rates)`: `train_step` of every member on its batch of `placed`, at its own rate. Devices
    do not wait for one another: members share nothing. One program serves any seeds and rates."""
    one = functools.partial(step.train_step, graph=graph, tx=tx, objective=build.training_objective(config),
                            ema=build.ema(config))

    def update(current, batches, rates, seeds):
        return jax.vmap(lambda current, batch, rate, seed: one(current, batch, rate, seed=seed),
                        in_axes=(axes(own), 0, 0, 0), out_axes=(axes(own), 0))(current, batches, rates, seeds)

    parts = jax.tree.map(lambda mine: SPLIT if mine else PartitionSpec(), own)
    local = jax.shard_map(update, mesh=mesh, in_specs=(parts, SPLIT, SPLIT, SPLIT), out_specs=(parts, SPLIT),
                          check_vma=False)
    return functools.partial(_last, jax.jit(local, donate_argnums=0), jnp.array(seeds, jnp.uint32))


def _last(program, seeds, current, batches, rates):
    return program(current, batches, rates, seeds)


class Member(loop.Job):
    """One member as the job that it would be alone: but for its seed, rate and folder, all is that of `job`."""

    def __init__(self, job: loop.Job, config: ConfigDict, folder: Path):
        vars(self).update(vars(job))
        self.config, self.folder, self.writer = config, folder, report.Writer(folder)
        self.loaders = [self.load(each.source, each.size) for each in job.loaders]


class Writers(contextlib.AbstractContextManager):
    """The writers of all members: a scalar is one number for all, or one for each. Those in `silent` write nothing."""

    def __init__(self, writers: Sequence[report.Writer], silent: dict[int, int]):
        self.writers, self.silent = writers, silent

    def resume(self, step: int, phase: str = "") -> None:
        """`report.Writer.resume` of each."""
        for writer in self._speaking().values():
            writer.resume(step, phase)

    def write_scalars(self, step: int, scalars: dict[str, Any], prefix: str = "") -> None:
        """One row each."""
        columns = {name: np.broadcast_to(value, len(self.writers)) for name, value in scalars.items()}
        for i, writer in self._speaking().items():
            writer.write_scalars(step, {name: column[i] for name, column in columns.items()}, prefix)

    def flush(self) -> None:
        """Make the rows of all durable."""
        for writer in self.writers:
            writer.flush()

    def __exit__(self, *_):
        for writer in self.writers:
            writer.close()

    def _speaking(self) -> dict[int, report.Writer]:
        return {i: writer for i, writer in enumerate(self.writers) if i not in self.silent}


class Population(loop.Job):
    """The job of all members at once: one state, one clock, one set of checkpoints, one folder around theirs."""

    def __init__(self, configs: Sequence[ConfigDict], folder: Path):
        super().__init__(configs[0], folder)
        self.company, self.label = len(configs), f"{len(configs)} members"
        self.own, self.crowd = own(self.config, self.tx), spread(len(configs))
        self.seeds, self.lost = [config.seed for config in configs], {}
        self.members = [Member(self, config, folder / config.name) for config in configs]
        self.writer = Writers([member.writer for member in self.members], self.lost)
        self.update = compiled(self.config, self.graph, self.tx, self.crowd, self.own, self.seeds)

    def first(self) -> TrainState:
        """The state before the first update: the seeds' weights, or those that all begin from."""
        fresh = initial(self.config, self.tx, self.crowd, self.own, self.seeds)
        if self.begin is None:
            return fresh
        params = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (self.company, *leaf.shape)), self.begin[0])
        params = jax.device_put(params, NamedSharding(self.crowd, SPLIT))
        return fresh._replace(params=params, ema=jax.tree.map(jnp.copy, params))

    def abstract(self) -> TrainState:
        """The state as shapes with shardings."""
        def widened(leaf, mine, sharding):
            shape = (self.company, *leaf.shape) if mine else leaf.shape
            return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=sharding)

        return jax.tree.map(widened, super().abstract(), self.own, shardings(self.crowd, self.own))

    def rate(self, stop: loop.Stop | None) -> Callable:
        """The learning rates by absolute step; a member that is lost moves no more."""
        rates = [member.rate(stop) for member in self.members]
        return lambda count: np.array([0.0 if i in self.lost else rate(count) for i, rate in enumerate(rates)])

    def stream(self, begin: int) -> Iterator:
        """The batches of all members; those of one seed are read once."""
        by_seed = dict(zip(self.seeds, self.members, strict=True))
        with contextlib.ExitStack() as stack:
            streams = [stack.enter_context(contextlib.closing(loader.together(member.loaders, begin)))
                       for member in by_seed.values()]
            for batches in zip(*streams, strict=True):
                of_seed = dict(zip(by_seed, batches, strict=True))
                yield placed(self.crowd, [of_seed[seed] for seed in self.seeds])

    def look(self, current: TrainState) -> dict:
        """Scalars on the EMA weights of each."""
        found = {i: self.evaluation.brief(self.part(current, i)) for i in range(self.company) if i not in self.lost}
        names = next(iter(found.values()))
        return {name: [found.get(i, {}).get(name, np.nan) for i in range(self.company)] for name in names}

    def part(self, current: TrainState, i: int) -> TrainState:
        """The state of one member."""
        one = jax.tree.map(lambda leaf, mine: leaf[i] if mine else leaf, current, self.own)
        return jax.device_put(one, meshes.replicated(self.mesh))

    def keep(self, saves: checkpoint.Checkpoints, k: int, current: TrainState) -> TrainState:
        """Save the state after update k. A member with NaN is lost from here on, and zero in every leaf."""
        good = jax.device_get(_finite(current.params, current.ema))
        self.lost.update({i: k for i in np.flatnonzero(~good).tolist() if i not in self.lost})
        if len(self.lost) == self.company:
            raise FloatingPointError(f"all {self.company} members hold NaN or infinity by update {k}")
        if not good.all():
            blank = jax.jit(functools.partial(_blank, self.own), out_shardings=shardings(self.crowd, self.own))
            current = blank(current, good)
        lost = {str(i): at for i, at in self.lost.items()}
        saves.save(k, current, {"seconds": self.seconds, "lost": lost, **self.origin})
        return current

    def restored(self, point: checkpoint.Point) -> TrainState:
        """The state of a stored point, with the clock set back to it and those lost by then."""
        self.lost.update({int(i): at for i, at in point.meta["lost"].items()})
        return super().restored(point)

    def recorded(self, stop: loop.Stop) -> bool:
        """Whether every member that is not lost is recorded at this stop."""
        return all(i in self.lost or member.recorded(stop) for i, member in enumerate(self.members))

    def record(self, annealed: TrainState, stop: loop.Stop) -> None:
        """Measure and record each member; its seconds are its share of those of the population."""
        for i, member in enumerate(self.members):
            if i not in self.lost and not member.recorded(stop):
                member.seconds = self.seconds / self.company
                member.record(self.part(annealed, i), stop)


@jax.jit
def _finite(*trees: PyTree):
    """For each member, whether all its leaves are finite."""
    return jnp.stack([jnp.isfinite(leaf).reshape(len(leaf), -1).all(1) for leaf in jax.tree.leaves(trees)]).all(0)


def _blank(own, current, good):
    """The state with zeros for the members that are not good."""
    def one(leaf, mine):
        return jax.vmap(jnp.where, in_axes=(0, 0, None))(good, leaf, jnp.zeros((), leaf.dtype)) if mine else leaf

    return jax.tree.map(one, current, own)


def describe(configs: Sequence[ConfigDict], folder: Path) -> None:
    """Write who the members are, and the config of each; a folder that holds other members is refused."""
    names = {config.name: recording.name_of(config, build.steps(config)) for config in configs}
    path = folder / MEMBERS
    if path.exists():
        old = json.loads(path.read_text())
        if list(old.items()) != list(names.items()):
            changed = [name for name in {**old, **names} if old.get(name) != names.get(name)] or ["their order"]
            raise InputError(f"{folder} holds a population of other members (not the same: {', '.join(changed[:4])}); "
                             "use another --workdir")
    for config in configs:
        recording.describe(config, folder / config.name)
    disk.write(path, json.dumps(names, indent=1).encode())


def finished(configs: Sequence[ConfigDict], folder: str | Path) -> bool:
    """Whether every annealed point of every member is recorded."""
    return all(loop.finished(config, Path(folder) / config.name) for config in configs)


def run(configs: Sequence[ConfigDict], folder: str | Path) -> list[dict]:
    """Train all configs together, each in the folder of its name in `folder`; returns their records. Raises
    ConfigError, InputError, and FloatingPointError naming the members that diverged when the others are recorded."""
    root = Path(folder).absolute()
    validate(configs)
    with contextlib.ExitStack() as stack:
        for place in (root, *(root / config.name for config in configs)):
            stack.enter_context(disk.hold(place))
        if not finished(configs, root):
            job = Population(configs, root)
            describe(configs, root)
            loop.train(job)
            if job.lost:
                fates = ", ".join(f"{configs[i].name} by update {at}" for i, at in sorted(job.lost.items()))
                raise FloatingPointError(f"diverged: {fates}; the other members are recorded")
        return [record for config in configs for record in recording.records(root / config.name)]
