"""DDPM: the network predicts the noise of a variance-preserving chain (Ho et al. 2020, eq. 14, "L simple").

Enters: normalised latents with captions. Leaves: the mean squared error over the tokens that were not given.
"""
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sora_jax.diffusion import times
from sora_jax.diffusion.path import Cosine, LinearVP
from sora_jax.diffusion.regression import Regression
from sora_jax.types import ConfigError

SCHEDULES = ("linear", "cosine")


@dataclass(frozen=True)
class Objective(Regression):
    """A chain of `steps`, whose times are drawn uniformly. `schedule` is linear (betas from `beta_min` to `beta_max`;
    with `zero_terminal` rescaled to end in noise alone, Lin et al. 2023) or cosine (Nichol and Dhariwal 2021)."""

    kind: str = "eps"
    schedule: str = "linear"
    steps: int = 1000
    beta_min: float = 1e-4
    beta_max: float = 0.02
    zero_terminal: bool = False

    def __post_init__(self):
        if self.schedule not in SCHEDULES:
            raise ConfigError(f"objective.schedule={self.schedule!r} is not one of {', '.join(SCHEDULES)}")
        if not 0 < self.beta_min <= self.beta_max < 1 or self.steps < 1:
            raise ConfigError(f"objective betas {self.beta_min} .. {self.beta_max} over {self.steps} steps: no chain. "
                              "Choose 0 < beta_min <= beta_max < 1 and steps >= 1")
        if self.steps < 2 and (self.zero_terminal or self.schedule == "cosine"):
            raise ConfigError(f"objective.steps={self.steps}: a cosine or rescaled chain has at least 2")
        if self.zero_terminal and self.schedule != "linear":
            raise ConfigError(f"objective.zero_terminal is for schedule='linear'; {self.schedule!r} has an end "
                              "of its own")
        super().__post_init__()

    @property
    def path(self) -> LinearVP | Cosine:
        """x_t = sqrt(alpha-bar) x0 + sqrt(1 - alpha-bar) eps."""
        if self.schedule == "cosine":
            return Cosine(self.steps)
        return LinearVP(self.steps, self.beta_min, self.beta_max, self.zero_terminal)

    def draw(self, key: jax.Array, count: int) -> Float[Array, "b"]:
        """One step of the chain per clip, as a time, before any shift."""
        return times.discrete(key, count, self.steps)

    def times(self, key: jax.Array, count: int, tokens: int) -> Float[Array, "b"]:
        """One step of the chain per clip, as a time: where shifted, the nearest step."""
        t = super().times(key, count, tokens)
        return jnp.clip(jnp.round(t * self.steps), 1, self.steps) / self.steps if self.shift_tokens else t
