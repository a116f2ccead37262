"""Captions to states: UTF-8 bytes and hashed n-grams, a short convolution, mean pooling, a small transformer.

Enters: caption bytes `b l` and their mask. Leaves: states `b m d` with mask, m = l / pool. N-gram hashes are those of
BLT (Pagnoni et al. 2024, section 3.2.1): they show whole words, and characters of any script, to the first layer.
A caption with nothing in it becomes one learned null state, which is the unconditional condition of guidance.
"""
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, UInt8

from sora_jax.nn.attention import attention
from sora_jax.nn.axes import param
from sora_jax.nn.embed import sinusoids
from sora_jax.nn.linear import Linear
from sora_jax.nn.norm import RMSNorm
from sora_jax.nn.transformer import stacked, through
from sora_jax.types import ConfigError

States = tuple[Float[Array, "b m d"], Bool[Array, "b m"]]


@dataclass(frozen=True)
class Config:
    """`length` bytes a caption, `pool` bytes a state, n-grams of the sizes `grams` hashed into `buckets` rows."""

    width: int = 128
    depth: int = 2
    heads: int = 4
    length: int = 128
    pool: int = 4
    kernel: int = 3
    grams: tuple[int, ...] = (3, 4, 6)
    buckets: int = 2048
    mlp_ratio: int = 4

    def __post_init__(self):
        if self.width % self.heads or self.width % 2:
            raise ConfigError(f"text.width={self.width} must be even and a multiple of text.heads={self.heads}")
        if self.length % self.pool:
            raise ConfigError(f"text.length={self.length} is not a multiple of text.pool={self.pool}")

    @property
    def states(self) -> int:
        """Caption states m that a transformer attends to."""
        return self.length // self.pool

    @property
    def flops(self) -> int:
        """Forward FLOPs of one caption, for models that take this encoder in."""
        d, m = self.width, self.states
        layer = 2 * m * (4 + 2 * self.mlp_ratio) * d * d + 4 * m * m * d
        return 2 * self.length * self.kernel * d * d + self.depth * layer


def tokenize(captions: list[str], length: int) -> tuple[UInt8[np.ndarray, "b l"], Bool[np.ndarray, "b l"]]:
    """UTF-8 bytes of each caption, zero-padded, and which are caption. A caption longer than `length` is cut before
    the first character that does not fit; an empty one is all padding."""
    text = np.zeros((len(captions), length), np.uint8)
    mask = np.zeros((len(captions), length), bool)
    for row, caption in enumerate(captions):
        data = caption.encode()[:length].decode(errors="ignore").encode()
        text[row, :len(data)] = np.frombuffer(data, np.uint8)
        mask[row, :len(data)] = True
    return text, mask


def gram_hashes(text: UInt8[Array, "b l"], mask: Bool[Array, "b l"], size: int, buckets: int) -> Int[Array, "b l"]:
    """A polynomial hash, modulo `buckets`, of the `size` bytes that end at each position; padding counts as zero."""
    data = jnp.where(mask, text, 0).astype(jnp.uint32) + 1
    total = jnp.zeros_like(data)
    for back in range(size):
        total = total * jnp.uint32(16777619) + jnp.pad(data, ((0, 0), (back, 0)))[:, :data.shape[1]]
    return ((total ^ (total >> 15)) % buckets).astype(jnp.int32)


class Layer(nnx.Module):
    """One pre-norm bidirectional transformer layer."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        d, hidden = config.width, config.mlp_ratio * config.width
        self.heads = config.heads
        self.norm_attention, self.norm_mlp = (RMSNorm(d, axis="embed", rngs=rngs) for _ in range(2))
        self.qkv = Linear(d, 3 * d, axes=("embed", "heads"), rngs=rngs)
        self.out = Linear(d, d, axes=("heads", "embed"), rngs=rngs)
        self.up = Linear(d, hidden, axes=("embed", "mlp"), rngs=rngs)
        self.down = Linear(hidden, d, axes=("mlp", "embed"), rngs=rngs)

    def __call__(self, x: Float[Array, "b m d"], mask: Bool[Array, "b m"]) -> Float[Array, "b m d"]:
        q, k, v = rearrange(self.qkv(self.norm_attention(x)), "b m (s a e) -> s b m a e", s=3, a=self.heads)
        x = x + self.out(rearrange(attention(q, k, v, mask[:, None]), "b m a e -> b m (a e)"))
        return x + self.down(nnx.gelu(self.up(self.norm_mlp(x))))


class Text(nnx.Module):
    """The caption encoder. Bytes under a False mask never change the result."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        d, self.config = config.width, config
        normal = nnx.initializers.normal((1 + len(config.grams)) ** -0.5)
        self.bytes = param(rngs.params(), normal, (256, d), ("vocab", "embed"))
        self.grams = param(rngs.params(), normal, (len(config.grams) * config.buckets, d), ("vocab", "embed"))
        self.convolution = Linear(config.kernel * d, d, axes=("in", "embed"), rngs=rngs)
        self.null = param(rngs.params(), nnx.initializers.normal(1.0), (d,), ("embed",))
        self.layers = stacked(lambda rngs: Layer(config, rngs=rngs), config.depth, rngs)
        self.norm = RMSNorm(d, axis="embed", rngs=rngs)

    def __call__(self, text: UInt8[Array, "b l"], mask: Bool[Array, "b l"]) -> States:
        x, kept = self.pooled(text, mask)
        empty = ~kept.any(axis=1)
        kept = kept.at[:, 0].set(kept[:, 0] | empty)
        x = x + sinusoids(jnp.arange(x.shape[1], dtype=jnp.float32), x.shape[2], 1000.0)
        x = jnp.where(empty[:, None, None], self.null[...], x)
        return self.norm(through(self.layers, x, kept)), kept

    def pooled(self, text: UInt8[Array, "b l"], mask: Bool[Array, "b l"]) -> States:
        """Byte and n-gram embeddings, convolved over neighbours, averaged over each group of `pool` bytes."""
        config = self.config
        if text.shape[1] % config.pool:
            raise ConfigError(f"captions of {text.shape[1]} bytes do not divide by text.pool={config.pool}")
        x = jnp.asarray(self.bytes[...])[text]
        for i, size in enumerate(config.grams):
            x = x + jnp.asarray(self.grams[...])[gram_hashes(text, mask, size, config.buckets) + i * config.buckets]
        x = jnp.where(mask[:, :, None], x, 0)
        side = config.kernel // 2
        wide = jnp.pad(x, ((0, 0), (side, config.kernel - 1 - side), (0, 0)))
        near = jnp.concatenate([wide[:, i:i + x.shape[1]] for i in range(config.kernel)], axis=-1)
        x = jnp.where(mask[:, :, None], x + nnx.gelu(self.convolution(near)), 0)
        x, kept = (rearrange(part, "b (m q) ... -> b m q ...", q=config.pool) for part in (x, mask))
        return x.sum(axis=2) / jnp.maximum(kept.sum(axis=2), 1)[..., None], kept.any(axis=2)


def build(config: Config, *, rngs: nnx.Rngs) -> Text:
    """The encoder that `config` describes."""
    return Text(config, rngs=rngs)


def flops(config: Config) -> dict[str, int]:
    """Forward FLOPs of one caption (2 per multiply-add, matmuls only)."""
    return {"text": config.flops}
