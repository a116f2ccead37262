"""Flow matching: the network predicts the velocity of the straight path (Lipman et al. 2022, eq. 23).

Enters: normalised latents with captions. Leaves: the mean squared error over the tokens that were not given.
"""
from dataclasses import dataclass

import jax
from jaxtyping import Array, Float

from sora_jax.diffusion import matching, times
from sora_jax.diffusion.path import Flow
from sora_jax.types import Batch, ConfigError, Scalars


@dataclass(frozen=True)
class Objective:
    """`time` is logit_normal (with `mean`, `std`) or uniform; `known` has a probability for each of masks.PATTERNS."""

    kind: str = "flow"
    time: str = "logit_normal"
    mean: float = 0.0
    std: float = 1.0
    caption_drop: float = 0.1
    known: tuple[float, ...] = (0.7, 0.1, 0.05, 0.05, 0.05, 0.05)

    def __post_init__(self):
        matching.check(self)
        if self.time not in ("logit_normal", "uniform"):
            raise ConfigError(f"objective.time={self.time!r} is not one of logit_normal, uniform")

    @property
    def path(self) -> Flow:
        """x_t = (1 - t) x0 + t eps."""
        return Flow()

    def times(self, key: jax.Array, count: int) -> Float[Array, "b"]:
        """One training time per clip."""
        if self.time == "uniform":
            return times.uniform(key, count)
        return times.logit_normal(key, count, self.mean, self.std)

    def loss(self, model, batch: Batch, key: jax.Array) -> tuple[Float[Array, ""], Scalars]:
        """The training loss and its scalars."""
        return matching.loss(self, model, batch, key)

    def errors(self, model, batch: Batch, t: Float[Array, "b"], eps: Float[Array, "b fl hl wl z"]) -> Float[Array, "b"]:
        """Per-clip error at given times and noise: see `matching.errors`."""
        return matching.errors(self, model, batch, t, eps)
