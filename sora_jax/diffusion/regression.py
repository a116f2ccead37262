"""What diffusion objectives share: their fields, the shift of their times, the training loss and the instrument.

An objective adds `path`, the Gaussian path it corrupts along, and `draw(key, count)`, its law of times.
"""
from dataclasses import dataclass

import jax
from jaxtyping import Array, Float, Int

from sora_jax.diffusion import matching, packed, resolution
from sora_jax.types import Batch, Packed, Scalars


@dataclass(frozen=True)
class Regression:
    """`kind` is what the network predicts, one of path.KINDS, or empty for the objective's own; `weight` one of
    weighting.WEIGHTS, with `gamma` of min-snr; `shift_tokens` the tokens of a clip whose times are not shifted, 0 for
    no shift; `known` has a probability for each of masks.PATTERNS; known tokens are noised up to time `known_noise`;
    `levels` is "two", or "frame" for a time of its own for each latent frame. Raises ConfigError for a bad field."""

    kind: str = ""
    weight: str = "none"
    gamma: float = 5.0
    shift_tokens: int = 0
    caption_drop: float = 0.1
    known: tuple[float, ...] = (0.7, 0.1, 0.05, 0.05, 0.05, 0.05)
    known_noise: float = 0.0
    levels: str = "two"

    def __post_init__(self):
        object.__setattr__(self, "kind", self.kind or type(self).kind)
        matching.check(self)

    def times(self, key: jax.Array, count: int, tokens: int | Int[Array, "b"]) -> Float[Array, "b"]:
        """`count` training times of clips of `tokens` tokens, each as many or each its own number."""
        return resolution.shift(self.path, self.draw(key, count), resolution.factor(tokens, self.shift_tokens))

    def loss(self, model, batch: Batch | Packed, key: jax.Array) -> tuple[Float[Array, ""], Scalars]:
        """The training loss and its scalars, of clips of one size or of packed rows."""
        return (packed.loss if isinstance(batch, Packed) else matching.loss)(self, model, batch, key)

    def errors(self, model, batch: Batch, t: Float[Array, "b"], eps: Float[Array, "b fl hl wl z"]) -> Float[Array, "b"]:
        """Per-clip error at given times and noise: see `matching.errors`."""
        return matching.errors(self, model, batch, t, eps)
