"""DDPM: the network predicts the noise of a variance-preserving chain (Ho et al. 2020, eq. 14, "L simple").

Enters: normalised latents with captions. Leaves: the mean squared error over the tokens that were not given.
"""
from dataclasses import dataclass

import jax
from jaxtyping import Array, Float

from sora_jax.diffusion import matching, times
from sora_jax.diffusion.path import LinearVP
from sora_jax.types import Batch, ConfigError, Scalars


@dataclass(frozen=True)
class Objective:
    """Linear betas over `steps`; times are drawn uniformly from the steps of the chain."""

    kind: str = "eps"
    steps: int = 1000
    beta_min: float = 1e-4
    beta_max: float = 0.02
    caption_drop: float = 0.1
    known: tuple[float, ...] = (0.7, 0.1, 0.05, 0.05, 0.05, 0.05)

    def __post_init__(self):
        matching.check(self)
        if not 0 < self.beta_min <= self.beta_max < 1 or self.steps < 1:
            raise ConfigError(f"objective betas {self.beta_min} .. {self.beta_max} over {self.steps} steps: no chain. "
                              "Choose 0 < beta_min <= beta_max < 1 and steps >= 1")

    @property
    def path(self) -> LinearVP:
        """x_t = sqrt(alpha-bar) x0 + sqrt(1 - alpha-bar) eps."""
        return LinearVP(self.steps, self.beta_min, self.beta_max)

    def times(self, key: jax.Array, count: int) -> Float[Array, "b"]:
        """One step of the chain per clip, as a time."""
        return times.discrete(key, count, self.steps)

    def loss(self, model, batch: Batch, key: jax.Array) -> tuple[Float[Array, ""], Scalars]:
        """The training loss and its scalars."""
        return matching.loss(self, model, batch, key)

    def errors(self, model, batch: Batch, t: Float[Array, "b"], eps: Float[Array, "b fl hl wl z"]) -> Float[Array, "b"]:
        """Per-clip error at given times and noise: see `matching.errors`."""
        return matching.errors(self, model, batch, t, eps)
