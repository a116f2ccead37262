"""Autoencoder objective: reconstruction (L1, L2 or both) + KL to a standard normal (Kingma & Welling 2013, eq. 10).

The weight of the KL is per latent element against per pixel element. `perceptual` is the place for a feature distance:
a callable `(x, reconstruction) -> scalar` given at construction, weighted by `perceptual_weight`; `temporal_weight`
weighs the L1 error of the change from frame to frame, which is what flickers.
"""
import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from sora_jax.types import Batch, ConfigError, Scalars


def pixels(x: Shaped[Array, "b f h w c"]) -> Float[Array, "b f h w c"]:
    """uint8 to [-1, 1]; floats pass."""
    return x.astype(jnp.float32) / 127.5 - 1.0 if x.dtype == jnp.uint8 else x


@dataclasses.dataclass(frozen=True)
class Objective:
    """`kind` is "l1", "l2" or "l1l2" (their sum); `kl` weights the KL per latent element."""

    kind: str = "l1l2"
    kl: float = 1e-4
    perceptual_weight: float = 0.0
    temporal_weight: float = 0.0
    perceptual: Callable | None = None

    def __post_init__(self):
        if self.kind not in ("l1", "l2", "l1l2"):
            raise ConfigError(f"objective.kind={self.kind!r} is not one of l1, l2, l1l2")
        if not self.kl >= 0:
            raise ConfigError(f"objective.kl={self.kl} must not be negative")
        for name in ("perceptual_weight", "temporal_weight"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"objective.{name}={getattr(self, name)} must not be negative")
        if bool(self.perceptual_weight) != (self.perceptual is not None):
            raise ConfigError("objective.perceptual_weight needs a perceptual distance, and only then is non-zero")

    def loss(self, model, batch: Batch, key: PRNGKeyArray) -> tuple[Float[Array, ""], Scalars]:
        """Scalar loss and its terms; `psnr` is of the clipped reconstruction with peak 2 (pixels in [-1, 1])."""
        x = pixels(batch.x)
        reconstruction, mean, logvar = model(x, key)
        error = reconstruction - x
        l1, l2 = jnp.mean(jnp.abs(error)), jnp.mean(error**2)
        kl = 0.5 * jnp.mean(mean**2 + jnp.exp(logvar) - 1.0 - logvar)
        loss = self.kl * kl + (l1 if self.kind != "l2" else 0.0) + (l2 if self.kind != "l1" else 0.0)
        clipped = jnp.mean((jnp.clip(reconstruction, -1, 1) - x) ** 2)
        scalars = {"l1": l1, "l2": l2, "kl": kl, "psnr": 10 * jnp.log10(4.0 / clipped)}
        if self.perceptual is not None:
            scalars["perceptual"] = self.perceptual(x, reconstruction)
            loss = loss + self.perceptual_weight * scalars["perceptual"]
        if self.temporal_weight and x.shape[1] > 1:
            scalars["temporal"] = jnp.mean(jnp.abs(jnp.diff(error, axis=1)))
            loss = loss + self.temporal_weight * scalars["temporal"]
        return loss, scalars
