"""Flow matching: the network predicts the velocity of the straight path (Lipman et al. 2022, eq. 23).

Enters: normalised latents with captions. Leaves: the mean squared error over the tokens that were not given.
"""
import math
from dataclasses import dataclass

import jax
from jaxtyping import Array, Float

from sora_jax.diffusion import times
from sora_jax.diffusion.path import Flow
from sora_jax.diffusion.regression import Regression
from sora_jax.types import ConfigError

TIMES = ("logit_normal", "mode", "uniform")
LARGEST = 2 / (math.pi - 2)  # scale of a mode law: beyond it, some time has no u


@dataclass(frozen=True)
class Objective(Regression):
    """`time` is logit_normal (with `mean`, `std`), mode (with `scale`) or uniform (Esser et al. 2024, section 3.1)."""

    kind: str = "flow"
    time: str = "logit_normal"
    mean: float = 0.0
    std: float = 1.0
    scale: float = 1.29

    def __post_init__(self):
        super().__post_init__()
        if self.time not in TIMES:
            raise ConfigError(f"objective.time={self.time!r} is not one of {', '.join(TIMES)}")
        if self.time == "mode" and not -1 <= self.scale <= LARGEST:
            raise ConfigError(f"objective.scale={self.scale} makes no law of times; give one in [-1, {LARGEST:.4g}]")

    @property
    def path(self) -> Flow:
        """x_t = (1 - t) x0 + t eps."""
        return Flow()

    def draw(self, key: jax.Array, count: int) -> Float[Array, "b"]:
        """Times before any shift."""
        if self.time == "uniform":
            return times.uniform(key, count)
        if self.time == "mode":
            return times.mode(key, count, self.scale)
        return times.logit_normal(key, count, self.mean, self.std)
