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
        reconstruction, mean, logvar = model(x, key)
        parts, scalars = self.distances(x, reconstruction)
        kl = 0.5 * jnp.mean(mean**2 + jnp.exp(logvar) - 1.0 - logvar)
        clipped = jnp.mean((jnp.clip(reconstruction, -1, 1) - x) ** 2)
        loss = sum(parts, self.kl * kl)
        scalars |= {"kl": kl, "psnr": 10 * jnp.log10(4.0 / clipped)}
        if self.critic_weight:
            contest, found = self.contest(model, x, key, reconstruction)
            scalars |= found
            loss = loss + contest - jax.lax.stop_gradient(contest)  # as large as without a critic, and to be compared
        return loss, scalars

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

    def contest(self, model, x: Float[Array, "b f h w c"], key: PRNGKeyArray,
                reconstruction: Float[Array, "b f h w c"]) -> tuple[Float[Array, ""], Scalars]:
        """What the critic and the autoencoder have against each other, as one sum. Its gradients part: each side's
        loss holds the other side's weights still."""
        still = jax.lax.stop_gradient
        real, fake = model.critic(x), model.critic(still(reconstruction))
        on_real, on_fake = hinge(real, fake)
        critic = still(model.critic)
        adversarial = -jnp.mean(critic(reconstruction))
        adaptive = self.adaptive(still(model), x, key)
        weight = self.begun(self.critic_from, self.critic_weight) * adaptive
        learns = self.begun(self.critic_from - self.critic_lead)
        right = (jnp.mean(real > 0) + jnp.mean(fake < 0)) / 2
        return weight * adversarial + learns * (on_real + on_fake), {
            "critic_real": on_real, "critic_fake": on_fake, "critic_accuracy": right, "adversarial": adversarial,
            "adaptive": adaptive}

    def adaptive(self, model, x: Float[Array, "b f h w c"], key: PRNGKeyArray) -> Float[Array, ""]:
        """VQGAN's lambda: the length of the gradient of the reconstruction at the last layer of the decoder over that
        of the adversarial term, at most `LARGEST`."""
        reconstruction, back = jax.vjp(lambda model: model(x, key)[0], model)

        def length(loss):
            return jnp.linalg.norm(back(jax.grad(loss)(reconstruction))[0].decoder.head.weight[...])

        nearer, truer = length(lambda y: sum(self.distances(x, y)[0])), length(lambda y: -jnp.mean(model.critic(y)))
        return jnp.minimum(nearer / (truer + SMALLEST), LARGEST)
