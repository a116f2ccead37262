"""Guidance: predictions with and without what was asked, combined into one that follows it more closely.

Enters: predictions `b n p` of one kind, and which tokens are unknown, the only ones that norms are taken over. Leaves:
one prediction. Classifier-free guidance is Ho and Salimans 2022, eq. 6, written with scale = 1 + w.
"""
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from sora_jax.types import ConfigError

SMALL = 1e-8  # of a norm: a fresh model predicts zero


@dataclass(frozen=True)
class Guidance:
    """What is done beside the scale; the fields of config.sampler of these names. The defaults do nothing.

    `guidance_known`: scale of the known tokens, 1: they are always shown. `rescale`: share of the rescaled prediction.
    `interval`: times between which captions guide. `zero_star`: the optimised scale. `zero_steps`: steps not walked."""

    guidance_known: float = 1.0
    rescale: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)
    zero_star: bool = False
    zero_steps: int = 0

    def __post_init__(self):
        if not 0 <= self.rescale <= 1:
            raise ConfigError(f"sampler.rescale={self.rescale} is a share; give one in [0, 1]")
        if len(self.interval) != 2 or not 0 <= self.interval[0] < self.interval[1] <= 1:
            raise ConfigError(f"sampler.interval={tuple(self.interval)} must be two times 0 <= low < high <= 1")
        if self.zero_steps < 0:
            raise ConfigError(f"sampler.zero_steps={self.zero_steps} must be 0 or more")
        if self.zero_star and self.guidance_known != 1:
            raise ConfigError(f"sampler.guidance_known={self.guidance_known} with sampler.zero_star: the optimised "
                              "scale is of two predictions, not three; set one of them off (1, False)")

    @property
    def everywhere(self) -> bool:
        """Whether captions guide at every time."""
        return self.interval[0] == 0.0 and self.interval[1] == 1.0


def guide(conditional: Float[Array, "*s"], unconditional: Float[Array, "*s"],
          scale: float | Float[Array, ""]) -> Float[Array, "*s"]:
    """unconditional + scale (conditional - unconditional): at scale 1 the conditional, at 0 the unconditional one."""
    return unconditional + scale * (conditional - unconditional)


def guide_both(conditional: Float[Array, "*s"], uncaptioned: Float[Array, "*s"], neither: Float[Array, "*s"],
               scale: float | Float[Array, ""], scale_known: float | Float[Array, ""]) -> Float[Array, "*s"]:
    """neither + scale_known (uncaptioned - neither) + scale (conditional - uncaptioned): the caption and the known
    tokens, which `neither` has not seen, with a scale each (Brooks et al. 2023, eq. 3). `guide` at scale_known 1."""
    return guide(uncaptioned, neither, scale_known) + scale * (conditional - uncaptioned)


def rescale(guided: Float[Array, "b n p"], conditional: Float[Array, "b n p"], share: float,
            unknown: Bool[Array, "b n"]) -> Float[Array, "b n p"]:
    """`guided` brought to the standard deviation of `conditional`, clip by clip, mixed in with this share (Lin et al.
    2023, eqs. 15 and 16)."""
    want, have = (jnp.std(part, axis=(1, 2), where=unknown[:, :, None], keepdims=True)
                  for part in (conditional, guided))
    return guided * (share * want / jnp.maximum(have, SMALL) + 1.0 - share)


def project(conditional: Float[Array, "b n p"], unconditional: Float[Array, "b n p"],
            unknown: Bool[Array, "b n"]) -> Float[Array, "b n p"]:
    """`unconditional` times s* = <conditional, unconditional> / |unconditional|^2, clip by clip: the multiple of it
    that is nearest to `conditional` (Fan et al. 2025, arXiv 2503.18886, section 4)."""
    def inner(one, other):
        return jnp.sum(one * other, axis=(1, 2), where=unknown[:, :, None], keepdims=True)

    return inner(conditional, unconditional) / jnp.maximum(inner(unconditional, unconditional), SMALL) * unconditional


def combine(rule: Guidance, scale: float | Float[Array, ""], unknown: Bool[Array, "b n"],
            conditional: Float[Array, "b n p"], unconditional: Float[Array, "b n p"],
            neither: Float[Array, "b n p"] | None = None) -> Float[Array, "b n p"]:
    """One prediction of two, or of three where the known tokens have a scale of their own, by the rule."""
    if rule.zero_star:
        unconditional = project(conditional, unconditional, unknown)
    guided = (guide(conditional, unconditional, scale) if neither is None
              else guide_both(conditional, unconditional, neither, scale, rule.guidance_known))
    return rescale(guided, conditional, rule.rescale, unknown) if rule.rescale else guided
