"""A run: a trunk at constant rate, and at each stop a branch that cools down to one annealed, recorded point.

Enters: a config and a folder. Leaves: checkpoints, metrics, pictures, one record per annealed point, EMA weights. A run
that was killed goes on from its last checkpoint and ends in the same bits. Chores read; they never write the state.
"""
import contextlib
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from sora_jax import build, checkpoint, disk, loader, report
from sora_jax.train import optimizer, recording, state, step
from sora_jax.train.evaluating import Evaluation


class Stop(NamedTuple):
    """An annealed point: the trunk is left at `start`, the rate reaches zero at `end` (both in updates)."""

    start: int
    end: int


def stops(steps: int, cooldown: float, branches: tuple[float, ...]) -> list[Stop]:
    """Where the run branches, in order; the last stop is the end of the run itself."""
    ends = sorted({max(1, round(steps * fraction)) for fraction in branches} | {steps})
    return [Stop(optimizer.cooling(end, cooldown), end) for end in ends]


class Job:
    """What a run is made of, built from a valid config before anything compiles."""

    def __init__(self, config: ConfigDict, folder: Path):
        self.config, self.folder, self.commit = config, folder, recording.commit()
        self.steps = build.steps(config)
        self.mesh = build.mesh(config)
        self.source, self.collate = build.training_source(config)
        self.origin = {"vae_hash": self.source.meta["vae_hash"]} if config.stage == "dit" else {}
        self.writer = report.Writer(folder)
        self.graph, shapes = state.split(lambda: build.make(config, config.seed))
        rule = config.optimizer
        self.tx = optimizer.adamw(
            beta1=rule.beta1, beta2=rule.beta2, eps=rule.eps, weight_decay=rule.weight_decay, clip=rule.clip,
            decayed=optimizer.matrices(shapes), muon=rule.muon, hidden=optimizer.hidden(shapes),
        )
        self.shardings = state.shardings(shapes, self.tx, self.mesh)
        self.update = step.compiled(
            self.shardings, self.mesh, graph=self.graph, objective=build.objective(config), tx=self.tx,
            ema=build.ema(config), seed=config.seed,
        )
        self.loader = loader.Loader(
            self.source, batch=config.train.batch, seed=config.seed, mesh=self.mesh, collate=self.collate
        )
        self.evaluation = Evaluation(config, self.graph)
        self.seconds = 0.0

    def make(self):
        """The model with the seed's fresh weights."""
        return build.make(self.config, self.config.seed)

    def every(self, name: str) -> int:
        """A chore's period in updates, from its fraction of the run."""
        return max(1, round(self.config.train[name] * self.steps))

    def rate(self, stop: Stop | None):
        """The learning rate by absolute step: on the trunk (None) or on the branch that ends at `stop`."""
        rule = self.config.optimizer
        cooldown, end = (0.0, None) if stop is None else (rule.cooldown, stop.end)
        return optimizer.schedule(rule.lr, self.steps, rule.warmup, cooldown, rule.shape, end)

    def advance(self, current: state.TrainState | None, name: str, until: int, stop: Stop | None) -> state.TrainState:
        """Train until update `until`, from `current` or from the newest checkpoint under `name` if there is one."""
        with checkpoint.Checkpoints(self.folder / name) as saves:
            if saves.steps() or current is None:
                point = saves.restore(state.abstract(self.make, self.tx, self.mesh))
                if point is not None:
                    current, self.seconds = point.state, point.meta["seconds"]
                elif current is None:
                    current = state.initial(self.make, self.tx, self.mesh)
            begin = int(current.step)
            if begin < until:
                self.writer.resume(begin, name)
                current = self.walk(current, saves, name, begin, until, self.rate(stop))
        return current

    def walk(self, current, saves, name, begin, until, rate) -> state.TrainState:
        """The loop itself. Scalars of an update are fetched after the next one is dispatched; before a save the rows up
        to it are on disk, so a run that is killed and resumed reports every update once."""
        pending, started, label = None, time.perf_counter() - self.seconds, f"{self.config.name} {name}"
        batches = contextlib.closing(self.loader.iterate(begin))
        with report.progress(until, label, initial=begin) as bar, batches as data:
            for k in range(begin, until):
                current, scalars = self.update(current, next(data), jnp.float32(rate(k)))
                self.note(name, pending, bar)
                pending = (k + 1, scalars)
                last = k + 1 == until
                if not last and (k + 1) % self.every("evaluate") == 0:
                    clips = {"clips": (k + 1) * self.config.train.batch}
                    self.writer.write_scalars(k + 1, self.evaluation.brief(current) | clips, f"{name}/")
                if last or (k + 1) % self.every("save") == 0:
                    self.note(name, pending, bar, force=last)
                    pending = None
                    self.writer.flush()
                    self.seconds = time.perf_counter() - started
                    saves.save(k + 1, current, {"seconds": self.seconds, **self.origin})
        return current

    def note(self, name, pending, bar, force=False) -> None:
        """Log the scalars of an update when it is their turn, and move the bar."""
        if pending is None:
            return
        k, scalars = pending
        bar.update(1)
        if force or k % self.every("log") == 0:
            values = {key: float(value) for key, value in jax.device_get(scalars).items()}
            self.writer.write_scalars(k, {**values, "clips": k * self.config.train.batch}, f"{name}/")
            bar.set(loss=values["loss"])


def run(config: ConfigDict, folder: str | Path) -> list[dict]:
    """Train `config` in `folder`; returns its records, one per annealed point. Raises ConfigError, InputError."""
    folder = Path(folder).absolute()
    build.validate(config)
    planned = stops(build.steps(config), config.optimizer.cooldown, config.train.branches)
    with disk.hold(folder):
        if not all(recording.done(folder, config, stop.end) for stop in planned):
            job = Job(config, folder)
            recording.describe(config, folder)
            train(job, planned)
        return recording.records(folder)


def train(job: Job, planned: list[Stop]) -> None:
    """From stop to stop along the trunk; each stop that has no record yet is cooled down, measured and recorded."""
    current = None
    with job.writer:
        for stop in planned:
            current = job.advance(current, "checkpoints", stop.start, None)
            if not recording.done(job.folder, job.config, stop.end):
                branch = job.advance(jax.tree.map(jnp.copy, current), f"branch-{stop.end}", stop.end, stop)
                recording.finish(job, branch, stop)
