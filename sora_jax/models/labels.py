"""Class labels in the place of captions: one embedding a class, one for no class (Peebles and Xie 2023, section 3.1).

Enters: a label as two bytes `b 2`, high byte first, and their mask. Leaves: one state `b 1 d` with its mask. A label
that is masked becomes the last row of the table, the unconditional condition of guidance.
"""
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, UInt8

from sora_jax.nn.axes import param
from sora_jax.types import ConfigError, InputError

States = tuple[Float[Array, "b m d"], Bool[Array, "b m"]]


@dataclass(frozen=True)
class Config:
    """`classes` with an embedding of `width` each."""

    width: int = 384
    classes: int = 1000

    def __post_init__(self):
        if not 0 < self.classes < 2**16:
            raise ConfigError(f"text.classes={self.classes} must be positive and fit into two bytes")

    @property
    def states(self) -> int:
        """Caption states m that a transformer attends to."""
        return 1

    @property
    def flops(self) -> int:
        """Forward FLOPs of one label: a table is read, nothing is multiplied."""
        return 0


def tokenize(captions: list[str], length: int = 2) -> tuple[UInt8[np.ndarray, "b l"], Bool[np.ndarray, "b l"]]:
    """Labels written as numbers → two bytes each and their mask; an empty one is no class. Raises InputError."""
    text, mask = np.zeros((len(captions), 2), np.uint8), np.zeros((len(captions), 2), bool)
    for row, caption in enumerate(captions):
        if not caption:
            continue
        if not (caption.isascii() and caption.isdigit() and int(caption) < 2**16):
            raise InputError(f"{caption!r} is no class label; this model is told a number, e.g. 207")
        text[row], mask[row] = divmod(int(caption), 256), True
    return text, mask


class Labels(nnx.Module):
    """The table of classes."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        normal = nnx.initializers.normal(0.02)
        self.table = param(rngs.params(), normal, (config.classes + 1, config.width), ("vocab", "embed"))

    def __call__(self, text: UInt8[Array, "b l"], mask: Bool[Array, "b l"]) -> States:
        label = jnp.minimum(text[:, 0].astype(jnp.int32) * 256 + text[:, 1], self.config.classes)
        label = jnp.where(mask.any(axis=1), label, self.config.classes)
        return jnp.asarray(self.table[...])[label][:, None], jnp.ones((len(text), 1), bool)


def build(config: Config, *, rngs: nnx.Rngs) -> Labels:
    """The table that `config` describes."""
    return Labels(config, rngs=rngs)


def flops(config: Config) -> dict[str, int]:
    """Forward FLOPs of one label."""
    return {"text": config.flops}
