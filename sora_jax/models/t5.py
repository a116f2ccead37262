"""T5's encoder, version 1.1, and UMT5's: token numbers `b l` and their mask to states `b l d`.

Raffel et al. 2020 (arXiv 1910.10683, section 2.1): RMS norms before each part, learned biases of relative positions in
the place of positions, no 1/√d. 1.1 gates its MLP (Shazeer 2020, arXiv 2002.05202); T5 has one table of biases, UMT5
one a layer. At equal weights the function of transformers' T5EncoderModel and UMT5EncoderModel; see `sora_jax.bridge`.
"""
import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from sora_jax.nn.axes import param
from sora_jax.nn.linear import Linear
from sora_jax.nn.norm import RMSNorm
from sora_jax.nn.transformer import stacked, through
from sora_jax.types import ConfigError

NORMAL = nnx.initializers.normal


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes; the default is T5 1.1 small. `head`: numbers of a head. `buckets` of relative positions, the last one of
    each direction from `distance` on; `every`: a table of biases in every layer (UMT5)."""

    vocab: int = 32128
    width: int = 512
    depth: int = 8
    heads: int = 6
    head: int = 64
    hidden: int = 1024
    buckets: int = 32
    distance: int = 128
    epsilon: float = 1e-6
    every: bool = False

    def __post_init__(self):
        if self.buckets % 4 or self.distance <= self.buckets // 4:
            raise ConfigError(f"buckets={self.buckets}, distance={self.distance}: buckets must be a multiple of 4, and "
                              "distance more than a quarter of them")


def bucket(length: int, buckets: int, distance: int) -> Int[np.ndarray, "n n"]:
    """Number of the bias of each query and key: half of the buckets for keys after the query; of each half, the first
    half for one distance each, the others spaced geometrically up to `distance` (Raffel et al. 2020, section 2.1)."""
    apart = np.arange(length)[None, :] - np.arange(length)[:, None]
    side, near = buckets // 2, buckets // 4
    # in float32, as the published code does: at a power the rounding says which bucket it is
    far = np.log(np.maximum(np.abs(apart), 1).astype(np.float32) / np.float32(near))
    far = far / np.float32(math.log(distance / near))
    far = np.minimum(near + (far * np.float32(side - near)).astype(np.int64), side - 1)
    return np.where(np.abs(apart) < near, np.abs(apart), far) + side * (apart > 0)


def mixed(q: Float[Array, "b n a e"], k: Float[Array, "b m a e"], v: Float[Array, "b m a e"],
          bias: Float[Array, "n m a"], mask: Bool[Array, "b m"]) -> Float[Array, "b n a e"]:
    """Attention with a bias of positions and no 1/√e; a key under a False mask is not seen."""
    scores = jnp.einsum("bnae,bmae->banm", q, k).astype(jnp.float32) + rearrange(bias, "n m a -> a n m")
    weights = jax.nn.softmax(jnp.where(mask[:, None, None], scores, jnp.finfo(jnp.float32).min), axis=-1)
    return jnp.einsum("banm,bmae->bnae", weights.astype(v.dtype), v)


class Layer(nnx.Module):
    """Attention and a gated MLP."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        d, inner, self.config = config.width, config.heads * config.head, config
        self.norm_attention = RMSNorm(d, axis="embed", epsilon=config.epsilon, rngs=rngs)
        self.qkv = Linear(d, 3 * inner, axes=("embed", "heads"), bias=False, init=NORMAL(d**-0.5), rngs=rngs)
        self.out = Linear(inner, d, axes=("heads", "embed"), bias=False, init=NORMAL(inner**-0.5), rngs=rngs)
        self.norm_mlp = RMSNorm(d, axis="embed", epsilon=config.epsilon, rngs=rngs)
        self.up = Linear(d, 2 * config.hidden, axes=("embed", "mlp"), bias=False, init=NORMAL(d**-0.5), rngs=rngs)
        self.down = Linear(config.hidden, d, axes=("mlp", "embed"), bias=False, init=NORMAL(config.hidden**-0.5),
                           rngs=rngs)
        self.relative = table(config, rngs) if config.every else None

    def __call__(self, x: Float[Array, "b n d"], numbers: Int[Array, "n n"], bias: Float[Array, "n n a"] | None,
                 mask: Bool[Array, "b n"]) -> Float[Array, "b n d"]:
        """`bias`: of the table that all layers share, if they do; else `numbers` look it up in the layer's own."""
        bias = bias if self.relative is None else self.relative[...][numbers]
        q, k, v = rearrange(self.qkv(self.norm_attention(x)), "b n (s a e) -> s b n a e", s=3, a=self.config.heads)
        x = x + self.out(rearrange(mixed(q, k, v, bias, mask), "b n a e -> b n (a e)"))
        gate, up = jnp.split(self.up(self.norm_mlp(x)), 2, axis=-1)
        return x + self.down(jax.nn.gelu(gate, approximate=True) * up)


def table(config: Config, rngs: nnx.Rngs) -> nnx.Param:
    """A table of biases `buckets heads`."""
    return param(rngs.params(), NORMAL(config.width**-0.5), (config.buckets, config.heads), (None, None))


class Encoder(nnx.Module):
    """The encoder."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.tokens = param(rngs.params(), NORMAL(1.0), (config.vocab, config.width), ("vocab", "embed"))
        self.relative = None if config.every else table(config, rngs)
        self.layers = stacked(lambda rngs: Layer(config, rngs=rngs), config.depth, rngs)
        self.norm = RMSNorm(config.width, axis="embed", epsilon=config.epsilon, rngs=rngs)

    def __call__(self, tokens: Int[Array, "b l"], mask: Bool[Array, "b l"]) -> Float[Array, "b l d"]:
        """States of tokens; those under a False mask are not attended to, and their own states mean nothing."""
        config = self.config
        numbers = jnp.asarray(bucket(tokens.shape[1], config.buckets, config.distance))
        bias = None if self.relative is None else self.relative[...][numbers]
        return self.norm(through(self.layers, self.tokens[...][tokens], numbers, bias, mask))


def build(config: Config, *, rngs: nnx.Rngs) -> Encoder:
    """The encoder that `config` describes, with fresh weights."""
    return Encoder(config, rngs=rngs)


def flops(config: Config, length: int) -> dict[str, int]:
    """Forward FLOPs of one caption of `length` tokens (2 per multiply-add, matmuls only)."""
    d, inner = config.width, config.heads * config.head
    layer = 2 * length * (4 * d * inner + 3 * d * config.hidden) + 4 * length * length * inner
    return {"text": config.depth * layer}
