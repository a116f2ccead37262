"""A run: a trunk at constant rate, and at each stop a branch that cools down to one annealed, recorded point.

Enters: a config and a folder. Leaves: checkpoints, metrics, pictures, one record per annealed point, EMA weights. A run
that was killed goes on from its last checkpoint and ends in the same bits. Chores read; they never write the state.
"""
import contextlib
import functools
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree
from ml_collections import ConfigDict

from sora_jax import adapted, build, checkpoint, disk, loader, pipeline, provenance, report, sources, validation
from sora_jax.train import optimizer, recording, state
from sora_jax.train.evaluating import Evaluation
from sora_jax.train.program import program
from sora_jax.types import InputError


class Stop(NamedTuple):
    """An annealed point: the trunk is left at `start`, the rate reaches zero at `end` (both in updates)."""

    start: int
    end: int


def stops(steps: int, cooldown: float, branches: tuple[float, ...]) -> list[Stop]:
    """Where the run branches, in order; the last stop is the end of the run itself."""
    ends = sorted({max(1, round(steps * fraction)) for fraction in branches} | {steps})
    return [Stop(optimizer.cooling(end, cooldown), end) for end in ends]


def planned(config: ConfigDict) -> list[Stop]:
    """The annealed points of a run."""
    return stops(build.steps(config), config.optimizer.cooldown, config.train.branches)


def starting(config: ConfigDict, origin: dict) -> tuple[dict, dict] | None:
    """(weights, header) that `train.start` names, None if it names none. Raises ConfigError, InputError if they are
    not those of a finished run, of another model, or of latents or states of another encoder."""
    path = config.train.get("start", "")
    if not path:
        return None
    opened = checkpoint.load_for_inspection(path)
    if "hash" not in opened.meta:
        raise InputError(f"train.start={path} is not finished; end that run first")
    build.model(config, opened.params, f"train.start={path}: ")
    provenance.check(opened.meta, origin, f"train.start={path}")
    return opened.params, opened.meta


def image_source(config: ConfigDict, origin: dict):
    """The one-frame clips of a run. Raises InputError if another autoencoder made their latents."""
    source = sources.image_source(config)
    if source.meta["vae_hash"] != origin["vae_hash"]:
        raise InputError(f"data.images={config.data.images} holds latents of autoencoder {source.meta['vae_hash']}, "
                         f"data.path those of {origin['vae_hash']}; encode both with one")
    return source


class Job:
    """What a run is made of, built from a valid config before anything compiles."""

    company = 1  # runs in the compiled program

    def __init__(self, config: ConfigDict, folder: Path, fence: Callable[[], None] = lambda: None):
        self.config, self.folder, self.fence, self.commit = config, folder, fence, recording.commit()
        self.label, self.steps = config.name, build.steps(config)
        self.mesh = build.mesh(config)
        self.source, self.collate = sources.training_source(config)
        self.origin = provenance.of(config, self.source)
        self.begin = starting(config, self.origin)
        self.coder = pipeline.autoencoder(config.vae.weights, want=self.origin["vae_hash"])[0] if (
            build.velocity_clips(config)) else None
        self.writer = report.Writer(folder)
        self.graph, self.tx, self.shardings, self.update, frozen = program(config, self.mesh)
        self.frozen = jax.device_put(self.begin[0], frozen) if frozen else {}
        if self.frozen:
            self.update = functools.partial(_last, self.update, self.frozen)
        self.loaders = [self.load(self.source, config.train.batch)]
        if images := build.images_per_clip(config):
            self.loaders.append(self.load(image_source(config, self.origin), images * config.train.batch))
        self.evaluation = Evaluation(config, self.graph)
        self.seconds = 0.0

    def load(self, source, batch: int) -> loader.Loader:
        """Batches of a source in the order of the run's seed."""
        return loader.Loader(source, batch=batch, seed=self.config.seed, mesh=self.mesh, collate=self.collate)

    def first(self) -> state.TrainState:
        """The state before the first update: the seed's weights, or those of `train.start`; a critic is fresh, and so
        are adapters, beside which those weights are frozen."""
        fresh = state.initial(self.make, self.tx, self.mesh)
        if self.begin is None or self.frozen:
            return fresh
        params = jax.device_put(self.begin[0], self.shardings.ema)
        return fresh._replace(params=fresh.params | params, ema=jax.tree.map(jnp.copy, params))

    def abstract(self) -> state.TrainState:
        """The state as shapes with shardings."""
        return state.abstract(self.make, self.tx, self.mesh)

    def make(self):
        """What an update changes, with the seed's fresh weights."""
        return build.learner(self.config, self.config.seed)

    def whole(self, trained: PyTree) -> PyTree:
        """The weights of the model that the run is for, from those that are trained: adapters are merged."""
        return adapted.whole(self.config, trained, lambda: self.frozen)

    def every(self, name: str) -> int:
        """A chore's period in updates, from its fraction of the run."""
        return max(1, round(self.config.train[name] * self.steps))

    def rate(self, stop: Stop | None):
        """The learning rate by absolute step: on the trunk (None) or on the branch that ends at `stop`."""
        rule = self.config.optimizer
        cooldown, end = (0.0, None) if stop is None else (rule.cooldown, stop.end)
        return optimizer.schedule(rule.lr, self.steps, rule.warmup, cooldown, rule.shape, end)

    def stream(self, begin: int) -> Iterator:
        """What update `begin` and those after it are made on."""
        return loader.together(self.loaders, begin)

    def look(self, current: state.TrainState) -> dict:
        """Scalars on the EMA weights, for the curves of the run."""
        return self.evaluation.brief(current._replace(ema=self.whole(current.ema)))

    def keep(self, saves: checkpoint.Checkpoints, k: int, current: state.TrainState) -> state.TrainState:
        """Save the state after update k; returns what to go on from."""
        saves.save(k, current, {"seconds": self.seconds, **self.origin})
        return current

    def recorded(self, stop: Stop) -> bool:
        """Whether there is nothing left to record at this stop."""
        return recording.done(self.folder, self.config, stop.end)

    def record(self, annealed: state.TrainState, stop: Stop) -> None:
        """Measure and record what the branch that ends at `stop` came to."""
        recording.finish(self, annealed, stop)

    def restored(self, point: checkpoint.Point) -> state.TrainState:
        """The state of a stored point, with the clock set back to it. Raises InputError if the run reads latents or
        states of captions now that are not those it began with."""
        provenance.check(point.meta, self.origin, f"the run in {self.folder}")
        self.seconds = point.meta["seconds"]
        return point.state

    def advance(self, current: state.TrainState | None, name: str, until: int, stop: Stop | None) -> state.TrainState:
        """Train until update `until`, from `current` or from the newest checkpoint under `name` if there is one."""
        with checkpoint.Checkpoints(self.folder / name) as saves:
            if saves.steps() or current is None:
                point = saves.restore(self.abstract())
                if point is not None:
                    current = self.restored(point)
                elif current is None:
                    current = self.first()
            begin = int(current.step)
            if begin < until:
                self.writer.resume(begin, name)
                current = self.walk(current, saves, name, begin, until, self.rate(stop))
        return current

    def walk(self, current, saves, name, begin, until, rate) -> state.TrainState:
        """The loop itself. Scalars of an update are fetched after the next one is dispatched; before a save the rows up
        to it are on disk, so a run that is killed and resumed reports every update once."""
        pending, started, label = None, time.perf_counter() - self.seconds, f"{self.label} {name}"
        batches = contextlib.closing(self.stream(begin))
        with report.progress(until, label, initial=begin) as bar, batches as data:
            for k in range(begin, until):
                current, scalars = self.update(current, next(data), jnp.float32(rate(k)))
                self.note(name, pending, bar)
                pending = (k + 1, scalars)
                last = k + 1 == until
                if not last and (k + 1) % self.every("evaluate") == 0:
                    clips = {"clips": (k + 1) * self.config.train.batch}
                    self.writer.write_scalars(k + 1, self.look(current) | clips, f"{name}/")
                if last or (k + 1) % self.every("save") == 0:
                    self.note(name, pending, bar, force=last)
                    pending = None
                    self.writer.flush()
                    self.seconds = time.perf_counter() - started
                    self.fence()
                    current = self.keep(saves, k + 1, current)
        return current

    def note(self, name, pending, bar, force=False) -> None:
        """Log the scalars of an update when it is their turn, and move the bar."""
        if pending is None:
            return
        k, scalars = pending
        bar.update(1)
        if force or k % self.every("log") == 0:
            values = jax.device_get(scalars)
            self.writer.write_scalars(k, {**values, "clips": k * self.config.train.batch}, f"{name}/")
            bar.set(loss=float(values["loss"].mean()))


def _last(update, frozen, current, batch, rate):
    return update(current, batch, rate, frozen)


def finished(config: ConfigDict, folder: str | Path) -> bool:
    """Whether every annealed point of the run is recorded in its folder."""
    return recording.finished(Path(folder), config, [stop.end for stop in planned(config)])


def run(config: ConfigDict, folder: str | Path, fence: Callable[[], None] = lambda: None) -> list[dict]:
    """Train `config` in `folder`; returns its records, one per annealed point. `fence` is asked before every save and
    record, and raises if the run is not ours any more. Raises ConfigError, InputError."""
    folder = Path(folder).absolute()
    validation.validate(config)
    with disk.hold(folder):
        if not finished(config, folder):
            job = Job(config, folder, fence)
            recording.describe(config, folder)
            train(job)
        return recording.records(folder)


def train(job: Job) -> None:
    """From stop to stop along the trunk; each stop that has no record yet is cooled down, measured and recorded, and
    the checkpoints of its branch are cleared unless it is the last."""
    current = None
    with job.writer:
        for stop in planned(job.config):
            current = job.advance(current, "checkpoints", stop.start, None)
            if not job.recorded(stop):
                name = f"branch-{stop.end}"
                job.record(job.advance(jax.tree.map(jnp.copy, current), name, stop.end, stop), stop)
                if stop.end != job.steps:
                    shutil.rmtree(job.folder / name)
