"""Autoencoder objective: reconstruction (L1, L2 or both) + KL to a standard normal (Kingma & Welling 2013, eq. 10).

The weight of the KL is per latent element against per pixel element. `perceptual` is the place for a feature distance;
`temporal_weight` weighs the L1 error of the change from frame to frame, which is what flickers. A critic, the idea of
DCGAN (Radford et al. 2015, arXiv 1511.06434), learns to tell clips from reconstructions in the same update: hinge
losses (Lim & Ye 2017, arXiv 1705.02894), weighed as in VQGAN (Esser et al. 2020, arXiv 2012.09841, eq. 7).
"""
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, Shaped

from sora_jax.types import Batch, ConfigError, Scalars

KINDS = {"l1": ("l1",), "l2": ("l2",), "l1l2": ("l1", "l2")}
TERMS = ("perceptual", "temporal", "critic")
SMALLEST, LARGEST = 1e-6, 1e4  # of the adversarial gradient that is divided by, and of the adaptive weight


def pixels(x: Shaped[Array, "b f h w c"]) -> Float[Array, "b f h w c"]:
    """uint8 to [-1, 1]; floats pass."""
    return x.astype(jnp.float32) / 127.5 - 1.0 if x.dtype == jnp.uint8 else x


def hinge(real: Float[Array, "..."], fake: Float[Array, "..."]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The critic's loss on clips and on reconstructions: zero where it says 1 or more of the first, -1 or less of the
    second."""
    return jnp.mean(jax.nn.relu(1 - real)), jnp.mean(jax.nn.relu(1 + fake))


def traced(model, x: Float[Array, "b f h w c"], key: PRNGKeyArray) -> tuple[tuple, Callable]:
    """What `model` gives, and the function from a gradient at its reconstruction to that of the weights of the
    decoder's last layer, `decoder.head`."""
    def run(weight):
        copy = jax.tree.map(lambda leaf: leaf, model)
        copy.decoder.head.weight.set_value(weight)
        return copy(x, key)

    given, back = jax.vjp(run, model.decoder.head.weight[...])
    rest = jax.tree.map(jnp.zeros_like, given[1:])
    return given, lambda gradient: back((gradient, *rest))[0]


def length(array: Float[Array, "..."]) -> Float[Array, ""]:
    """Euclidean, of all elements."""
    return jnp.sqrt(jnp.sum(array**2))


@dataclasses.dataclass(frozen=True)
class Objective:
    """`kind` is "l1", "l2" or "l1l2" (their sum); `kl` weights the KL per latent element. A term weighs nothing before
    `<term>_from` of the run, which has `steps` updates; the critic learns from `critic_lead` of the run before that."""

    kind: str = "l1l2"
    kl: float = 1e-4
    perceptual_weight: float = 0.0
    temporal_weight: float = 0.0
    critic_weight: float = 0.0
    perceptual_from: float = 0.0
    temporal_from: float = 0.0
    critic_from: float = 0.0
    critic_lead: float = 0.05
    perceptual: Callable | None = None
    steps: int = 1
    step: Any = None  # the update whose weights hold; None: all terms have begun

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ConfigError(f"objective.kind={self.kind!r} is not one of {', '.join(KINDS)}")
        for name in ("kl", *(f"{term}_weight" for term in TERMS)):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"objective.{name}={getattr(self, name)} must not be negative")
        for name in ("critic_lead", *(f"{term}_from" for term in TERMS)):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"objective.{name}={getattr(self, name)} is not a fraction of the run; give one in "
                                  "[0, 1]")
        if bool(self.perceptual_weight) != (self.perceptual is not None):
            raise ConfigError("objective.perceptual_weight needs a perceptual distance, and only then is non-zero")

    def at(self, step: Int[Array, ""]) -> "Objective":
        """The objective of update `step` (the first is 0)."""
        return dataclasses.replace(self, step=step)

    def begun(self, start: float, weight: float = 1.0) -> Float[Array, ""] | float:
        """`weight` from the fraction `start` of the run on, zero before."""
        first = round(start * self.steps)
        return weight if self.step is None or first <= 0 else weight * (self.step >= first)

    def loss(self, model, batch: Batch, key: PRNGKeyArray) -> tuple[Float[Array, ""], Scalars]:
        """Scalar loss and its terms; `psnr` is of the clipped reconstruction with peak 2 (pixels in [-1, 1]). With a
        critic, `model.critic`, the gradients of all losses come back together: hers reach only her weights."""
        x = pixels(batch.x)
        if self.critic_weight:
            (reconstruction, mean, logvar), back = traced(model, x, key)
            total, scalars = self.contest(model.critic, x, reconstruction, back)
            parts = [total]
        else:
            reconstruction, mean, logvar = model(x, key)
            parts, scalars = self.distances(x, reconstruction)
        kl = 0.5 * jnp.mean(mean**2 + jnp.exp(logvar) - 1.0 - logvar)
        clipped = jnp.mean((jnp.clip(reconstruction, -1, 1) - x) ** 2)
        return sum(parts, self.kl * kl), scalars | {"kl": kl, "psnr": 10 * jnp.log10(4.0 / clipped)}

    def distances(self, x: Float[Array, "b f h w c"],
                  reconstruction: Float[Array, "b f h w c"]) -> tuple[list[Float[Array, ""]], Scalars]:
        """The weighed terms that depend on the reconstruction, and those terms by name, not weighed."""
        error = reconstruction - x
        found = {"l1": jnp.mean(jnp.abs(error)), "l2": jnp.mean(error**2)}
        parts = [found[name] for name in KINDS[self.kind]]
        if self.perceptual is not None:
            found["perceptual"] = self.perceptual(x, reconstruction)
            parts.append(self.begun(self.perceptual_from, self.perceptual_weight) * found["perceptual"])
        if self.temporal_weight and x.shape[1] > 1:
            found["temporal"] = jnp.mean(jnp.abs(jnp.diff(error, axis=1)))
            parts.append(self.begun(self.temporal_from, self.temporal_weight) * found["temporal"])
        return parts, found

    def contest(self, critic: Callable, x: Float[Array, "b f h w c"], reconstruction: Float[Array, "b f h w c"],
                back: Callable) -> tuple[Float[Array, ""], Scalars]:
        """The sum of `distances`, with the gradients of what critic and autoencoder have against each other: their
        losses add none of their value, so that the sum compares with that of a run without. `back` is of `traced`.

        Gradients at the pixels are taken once, for the adaptive weight (VQGAN's lambda) and for the autoencoder."""
        still = jax.lax.stop_gradient
        seen, held = still(reconstruction), still(critic)
        real, fake = critic(x), critic(seen)
        on_real, on_fake = hinge(real, fake)
        adversarial, truer = jax.value_and_grad(lambda y: -jnp.mean(held(y)))(seen)

        def distance(y):
            parts, found = self.distances(x, y)
            return sum(parts), found

        (total, scalars), nearer = jax.value_and_grad(distance, has_aux=True)(seen)
        adaptive = jnp.minimum(length(back(nearer)) / (length(back(truer)) + SMALLEST), LARGEST)
        weight = self.begun(self.critic_from, self.critic_weight) * still(adaptive)
        learns = self.begun(self.critic_from - self.critic_lead)
        slope = jnp.vdot(nearer + weight * truer, reconstruction) + learns * (on_real + on_fake)
        right = (jnp.mean(real > 0) + jnp.mean(fake < 0)) / 2
        scalars |= {"critic_real": on_real, "critic_fake": on_fake, "critic_accuracy": right,
                    "adversarial": adversarial, "adaptive": adaptive}
        return total + (slope - still(slope)), scalars
