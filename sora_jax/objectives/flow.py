"""Flow matching: the network predicts the velocity of the straight path (Lipman et al. 2022, eq. 23).

Enters: normalised latents with captions. Leaves: the mean squared error over the unknown tokens. Some tokens are given
clean, as level 0 (image to video, inpainting, extension are masks), and some captions are dropped for guidance.
"""
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sora_jax.diffusion import masks, matching, times
from sora_jax.diffusion.path import KINDS, Flow
from sora_jax.types import Batch, ConfigError, Scalars


@dataclass(frozen=True)
class Objective:
    """`time` is logit_normal (with `mean`, `std`) or uniform; `known` gives a probability for each of masks.PATTERNS."""

    kind: str = "flow"
    time: str = "logit_normal"
    mean: float = 0.0
    std: float = 1.0
    caption_drop: float = 0.1
    known: tuple[float, ...] = (0.7, 0.1, 0.05, 0.05, 0.05, 0.05)

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ConfigError(f"objective.kind={self.kind!r} is not one of {', '.join(KINDS)}")
        if self.time not in ("logit_normal", "uniform"):
            raise ConfigError(f"objective.time={self.time!r} is not one of logit_normal, uniform")
        if len(self.known) != len(masks.PATTERNS) or abs(sum(self.known) - 1) > 1e-6 or min(self.known) < 0:
            raise ConfigError(f"objective.known={self.known} must be {len(masks.PATTERNS)} probabilities that sum to 1, "
                              f"for {', '.join(masks.PATTERNS)}")

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
        """Mean squared error over the unknown tokens of the batch."""
        key_time, key_noise, key_known, key_drop = jax.random.split(key, 4)
        x0, positions = model.tokenise(batch.x)
        t = self.times(key_time, x0.shape[0])
        eps = jax.random.normal(key_noise, x0.shape, x0.dtype)
        given = masks.random_known(key_known, positions, self.known)
        mask = matching.drop_captions(key_drop, batch.mask, self.caption_drop)

        def predict(xt, levels, level):
            return model(xt, positions, levels, level, batch.text, mask)

        error = matching.errors(predict, self.path, self.kind, x0, eps, t, given)
        return matching.unknown_mean(error, given), {"known_fraction": given.mean(), "time_mean": t.mean()}

    def errors(self, model, batch: Batch, t: Float[Array, "b"], eps: Float[Array, "b fl hl wl z"]) -> Float[Array, "b"]:
        """Per-clip mean squared error at given times and noise, every token unknown and every caption kept.

        `eps` has the shape of `batch.x`, so that the same noise serves models of any patch."""
        x0, positions = model.tokenise(batch.x)
        noise, _ = model.tokenise(eps)

        def predict(xt, levels, level):
            return model(xt, positions, levels, level, batch.text, batch.mask)

        given = jnp.zeros(noise.shape[:2], bool)
        return matching.errors(predict, self.path, self.kind, x0, noise, t, given).mean(axis=1)
