"""CLIP's text encoder: token numbers `b l` to states `b l d`, and one vector a caption.

Radford et al. 2021 (arXiv 2103.00020, section 2.4): a causal pre-norm transformer with learned positions, read at the
token that ends the caption. At equal weights it is the function of transformers' CLIPTextModel and
CLIPTextModelWithProjection; see `sora_jax.bridge`.
"""
import dataclasses

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from sora_jax.nn.axes import param
from sora_jax.nn.linear import Linear
from sora_jax.nn.norm import LayerNorm
from sora_jax.nn.transformer import ACTIVATIONS, Block, stacked, through
from sora_jax.nn.transformer import flops as stack_flops
from sora_jax.types import ConfigError

NORMAL = nnx.initializers.normal
LARGEST = -1


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes; the default is that of ViT-L/14. `eos`: the token that ends a caption, -1 for the largest number in it.
    `projection`: width of `embedded`, 0 for none."""

    vocab: int = 49408
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072
    length: int = 77
    activation: str = "quick_gelu"
    epsilon: float = 1e-5
    eos: int = LARGEST
    projection: int = 0

    def __post_init__(self):
        if self.heads < 1 or self.width % self.heads:
            raise ConfigError(f"width={self.width} is not a multiple of heads={self.heads}; change one of them")
        if self.activation not in ACTIVATIONS:
            raise ConfigError(f"activation={self.activation!r} is not one of {', '.join(ACTIVATIONS)}")


class Encoder(nnx.Module):
    """The encoder."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        d, self.config = config.width, config
        self.tokens = param(rngs.params(), NORMAL(0.02), (config.vocab, d), ("vocab", "embed"))
        self.positions = param(rngs.params(), NORMAL(0.01), (config.length, d), (None, "embed"))
        self.blocks = stacked(lambda rngs: Block(d, config.heads, config.hidden, activation=config.activation,
                                                 epsilon=config.epsilon, rngs=rngs), config.depth, rngs)
        self.norm = LayerNorm(d, axis="embed", epsilon=config.epsilon, rngs=rngs)
        self.project = Linear(d, config.projection, axes=("embed", "out"), bias=False,
                              rngs=rngs) if config.projection else None

    def __call__(self, tokens: Int[Array, "b l"], mask: Bool[Array, "b l"] | None = None) -> Float[Array, "b l d"]:
        """States of tokens; each sees itself and those before it, but for those under a False mask, of which the first
        must not be one. Raises ConfigError if there are more than the positions that were learned."""
        length = tokens.shape[1]
        if length > self.config.length:
            raise ConfigError(f"captions of {length} tokens, length={self.config.length}: cut them")
        x = self.tokens[...][tokens] + self.positions[...][:length]
        seen = jnp.tril(jnp.ones((length, length), bool))[None]
        seen = jnp.broadcast_to(seen if mask is None else seen & mask[:, None], (len(x), length, length))
        return self.norm(through(self.blocks, x, seen))

    def pooled(self, tokens: Int[Array, "b l"], mask: Bool[Array, "b l"] | None = None) -> Float[Array, "b d"]:
        """The state of the token that ends each caption."""
        states, eos = self(tokens, mask), self.config.eos
        last = jnp.argmax(tokens if eos == LARGEST else tokens == eos, axis=1)
        return jnp.take_along_axis(states, last[:, None, None], axis=1)[:, 0]

    def embedded(self, tokens: Int[Array, "b l"], mask: Bool[Array, "b l"] | None = None) -> Float[Array, "b p"]:
        """The pooled state in the space that captions share with pictures. Raises ConfigError without a projection."""
        if self.project is None:
            raise ConfigError("projection=0: these weights have no projection; ask for pooled states")
        return self.project(self.pooled(tokens, mask))


def build(config: Config, *, rngs: nnx.Rngs) -> Encoder:
    """The encoder that `config` describes, with fresh weights."""
    return Encoder(config, rngs=rngs)


def flops(config: Config, length: int | None = None) -> dict[str, int]:
    """Forward FLOPs of one caption of `length` tokens (2 per multiply-add, matmuls only)."""
    blocks = stack_flops(config.width, config.hidden, config.depth, length or config.length)
    return {"text": blocks + 2 * config.width * config.projection}
