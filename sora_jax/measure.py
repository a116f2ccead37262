"""What a run really costs here: its own update, compiled as in training, on random data, timed and weighed.

Enters: a config. Leaves: seconds an update takes and the bytes that XLA asks for on one device, beside what the plan
said. Nothing is read from disk and nothing is written.
"""
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from sora_jax import build, costs, validation
from sora_jax.train import population, state
from sora_jax.train.program import program
from sora_jax.types import Batch, Packed

WARM = 3  # updates before the clock starts


class Measured(NamedTuple):
    """Seconds per update (median), model FLOPs per second at that pace, hours of the whole run, and bytes on a device:
    what the compiled update holds at once, and what the plan said it would."""

    seconds: float
    flops_per_second: float
    hours: float
    bytes: int
    planned_bytes: int


def random_text(config: ConfigDict, *lead: int) -> tuple[np.ndarray, np.ndarray]:
    """Bytes of captions `*lead l` or, of those that are encoded elsewhere, states `*lead l d`; and their mask."""
    rng, shape = np.random.default_rng(1), (*lead, config.text.length)
    if config.text.name == "given":
        return rng.normal(size=(*shape, config.text.width)).astype(np.float32), np.ones(shape, bool)
    return rng.integers(97, 122, shape, np.uint8), np.ones(shape, bool)


def random_batch(config: ConfigDict) -> Batch | Packed | tuple[Batch, Batch]:
    """What one update of the run takes, of noise."""
    rng, count = np.random.default_rng(0), config.train.batch
    if config.stage == "vae":
        pixels = rng.integers(0, 255, (count, *build.clip_shape(config), 3), np.uint8)
        return Batch(pixels, np.zeros((count, 1), np.uint8), np.zeros((count, 1), bool))

    tokens, most = build.row(config)
    if tokens:
        segments = np.broadcast_to(np.arange(tokens) * most // tokens, (count, tokens)).astype(np.int32)
        return Packed(rng.normal(size=(count, tokens, build.model_config(config)[0].elements)).astype(np.float32),
                      np.zeros((count, tokens, 3), np.float32), segments, *random_text(config, count, most))

    def latents(shape, clips):
        return Batch(rng.normal(size=(clips, *shape)).astype(np.float32), *random_text(config, clips))

    clips = latents(build.latent_shape(config), count)
    images = build.images_per_clip(config)
    return (clips, latents(build.latent_shape(build.one_frame(config)), images * count)) if images else clips


def run(config: ConfigDict, updates: int = 20) -> Measured:
    """Compile the update of `config` on this machine's mesh and do it `updates` times. Raises ConfigError."""
    validation.validate(config, here=False)
    mesh = build.mesh(config)
    _, tx, _, update, frozen = program(config, mesh)
    rest = (fresh(config, frozen),) if frozen else ()
    current = state.initial(lambda: build.learner(config, config.seed), tx, mesh)
    batch, rate = random_batch(config), jnp.float32(0.0)
    held = update.lower(current, batch, rate, *rest).compile().memory_analysis()
    clock = []
    for k in range(WARM + updates):
        begun = time.perf_counter()
        current, scalars = update(current, batch, rate, *rest)
        jax.block_until_ready(scalars)
        if k >= WARM:
            clock.append(time.perf_counter() - begun)
    seconds, budget = statistics.median(clock), costs.budget(config)
    return Measured(seconds, budget.flops_per_clip * config.train.batch / seconds,
                    seconds * build.steps(config) / 3600, held.argument_size_in_bytes + held.temp_size_in_bytes,
                    sum(budget.bytes_per_device.values()))


def fresh(config: ConfigDict, shardings):
    """Weights of the seed, as those that are frozen."""
    return jax.jit(lambda: nnx.to_pure_dict(nnx.state(build.make(config, config.seed), nnx.Param)),
                   out_shardings=shardings)()


class Gain(NamedTuple):
    """Seconds of an update (medians) of one run alone, and of a population of `members`; updates a second of all
    members together, as a multiple of those of the run alone."""

    members: int
    alone: float
    together: float

    @property
    def ratio(self) -> float:
        """Above 1: the population is quicker than its members one after the other."""
        return self.members * self.alone / self.together


def gains(config: ConfigDict, members: Sequence[int], rounds: int = 7, updates: int = 4,
          clock: Callable[[], float] = time.perf_counter) -> Iterator[Gain]:
    """What populations of each of these sizes, all of different seeds, gain here: the run alone, on one device, and the
    population, on as many as its members share evenly, take turns of `updates` updates. Raises ConfigError."""
    validation.validate(config, here=False)
    mesh, batch = build.mesh(config), random_batch(config)
    graph, tx, _, update, _ = program(config, mesh)
    own = population.own(config, tx)

    def turn(update, current, batch, rate):
        begun = clock()
        for _ in range(updates):
            current, scalars = update(current, batch, rate)
        jax.block_until_ready(scalars)
        return current, (clock() - begun) / updates

    single = state.initial(lambda: build.make(config, config.seed), tx, mesh)
    for count in members:
        crowd = population.spread(count)
        together = population.compiled(config, graph, tx, crowd, own, range(count))
        many, times = population.initial(config, tx, crowd, own, range(count)), []
        batches = population.placed(crowd, (batch,) * count)
        for _ in range(1 + rounds):
            single, alone = turn(update, single, batch, jnp.float32(0.0))
            many, joint = turn(together, many, batches, np.zeros(count, np.float32))
            times.append((alone, joint))
        yield Gain(count, *(statistics.median(turns) for turns in zip(*times[1:], strict=True)))
