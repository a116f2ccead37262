"""Captions whose states are made elsewhere, by an encoder that is no part of the model: T5, UMT5, CLIP.

Enters: states in place of bytes. Leaves: the same, one learned state where none is kept, the unconditional condition of
guidance. Published transformers encode the empty caption instead, and are called with `text_states`.
"""
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Shaped, UInt8

from sora_jax.nn.axes import param
from sora_jax.types import ConfigError, InputError

States = tuple[Float[Array, "b m d"], Bool[Array, "b m"]]


@dataclass(frozen=True)
class Config:
    """`states` of a caption, of this `width`."""

    width: int = 4096
    length: int = 512

    def __post_init__(self):
        if self.width < 1 or self.length < 1:
            raise ConfigError(f"text.width={self.width} and text.length={self.length} must be positive")

    @property
    def states(self) -> int:
        """Caption states m that a transformer attends to."""
        return self.length

    @property
    def flops(self) -> int:
        """The encoder is not run here."""
        return 0


def tokenize(captions: list[str], length: int) -> tuple[UInt8[np.ndarray, "b l"], Bool[np.ndarray, "b l"]]:
    """No bytes for empty captions. Raises InputError for any other: there is no encoder here."""
    if not any(captions):
        return np.zeros((len(captions), 0), np.uint8), np.zeros((len(captions), 0), bool)
    raise InputError("this model's captions are encoded elsewhere; pass text_states, e.g. those of sora_jax.captions")


class Given(nnx.Module):
    """The state of no caption."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.null = param(rngs.params(), nnx.initializers.zeros, (config.width,), ("embed",))

    def __call__(self, text: Shaped[Array, "b l *d"], mask: Bool[Array, "b l"]) -> States:
        """States `b l d` as they are; where nothing is kept of a caption, and for captions of no bytes, the learned
        one."""
        if text.ndim == 2 and text.shape[1]:
            raise InputError("this model's captions are encoded elsewhere; call it with their states")
        if not text.shape[1]:
            return jnp.broadcast_to(self.null[...], (len(text), 1, self.config.width)), jnp.ones((len(text), 1), bool)
        first = ~mask.any(axis=1, keepdims=True) & (jnp.arange(mask.shape[1]) == 0)
        return jnp.where(first[..., None], self.null[...], text), mask | first


def build(config: Config, *, rngs: nnx.Rngs) -> Given:
    """What stands for an encoder that is not here."""
    return Given(config, rngs=rngs)


def flops(config: Config) -> dict[str, int]:
    """Forward FLOPs of one caption here."""
    return {"text": 0}
