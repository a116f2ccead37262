"""Vision transformer: frames `b h w c` to a class token and patch tokens, and to class logits.

Dosovitskiy et al. 2021 (arXiv 2010.11929), equations 1 to 4: patches of 16×16 become tokens, learned positions are
added, pre-norm blocks follow. Leaves: `b n d` with the class token first. At equal weights it is the function of
transformers' ViTModel and ViTForImageClassification; see `sora_jax.bridge`.
"""
import dataclasses

import jax.numpy as jnp
from einops import rearrange, repeat
from flax import nnx
from jaxtyping import Array, Float

from sora_jax.nn.axes import param
from sora_jax.nn.linear import Linear
from sora_jax.nn.norm import LayerNorm
from sora_jax.nn.transformer import Block, stacked, through
from sora_jax.nn.transformer import flops as stack_flops
from sora_jax.types import ConfigError

NORMAL = nnx.initializers.normal(0.02)


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes; the default is ViT-B/16 on 224×224: 196 patches of 768 numbers, a class token, 197 tokens of 768.

    `classes`: of the head, 0 for none. `pooler`: a dense layer and tanh on the class token, which some published
    weights have in the place of a head."""

    image: tuple[int, int] = (224, 224)
    patch: tuple[int, int] = (16, 16)
    channels: int = 3
    width: int = 768
    depth: int = 12
    heads: int = 12
    hidden: int = 3072
    epsilon: float = 1e-12
    classes: int = 0
    pooler: bool = False

    def __post_init__(self):
        if self.heads < 1 or self.width % self.heads:
            raise ConfigError(f"width={self.width} is not a multiple of heads={self.heads}; change one of them")
        if any(part < 1 or size % part for size, part in zip(self.image, self.patch, strict=True)):
            raise ConfigError(f"patch={self.patch} does not divide image={self.image}; change one of them")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.image[0] // self.patch[0], self.image[1] // self.patch[1]

    @property
    def tokens(self) -> int:
        """Tokens of a frame, the class token among them."""
        return 1 + self.grid[0] * self.grid[1]


class ViT(nnx.Module):
    """The encoder with its head or pooler, if it has one."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        d, self.config = config.width, config
        self.embed = Linear(config.channels * config.patch[0] * config.patch[1], d, axes=("in", "embed"), rngs=rngs)
        self.first = param(rngs.params(), NORMAL, (d,), ("embed",))
        self.positions = param(rngs.params(), NORMAL, (config.tokens, d), (None, "embed"))
        self.blocks = stacked(lambda rngs: Block(d, config.heads, config.hidden, activation="gelu",
                                                 epsilon=config.epsilon, rngs=rngs), config.depth, rngs)
        self.norm = LayerNorm(d, axis="embed", epsilon=config.epsilon, rngs=rngs)
        self.pooler = Linear(d, d, axes=("in", "embed"), rngs=rngs) if config.pooler else None
        self.head = Linear(d, config.classes, axes=("embed", "out"), rngs=rngs) if config.classes else None

    def tokenise(self, x: Float[Array, "b h w c"]) -> Float[Array, "b n d"]:
        """Class token and embedded patches with their positions, row by row. Raises ConfigError for another size."""
        if x.shape[1:] != (*self.config.image, self.config.channels):
            raise ConfigError(f"frames of {x.shape[1:]} do not fit image={self.config.image}, channels="
                              f"{self.config.channels}: resize them, the positions were learned for this size")
        high, wide = self.config.patch
        patches = rearrange(x, "b (h p) (w q) c -> b (h w) (p q c)", p=high, q=wide)
        first = repeat(self.first[...].astype(x.dtype), "d -> b 1 d", b=x.shape[0])
        return jnp.concatenate([first, self.embed(patches)], axis=1) + self.positions[...].astype(x.dtype)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b n d"]:
        """Tokens of frames in [-1, 1], the class token first."""
        return self.norm(through(self.blocks, self.tokenise(x)))

    def pooled(self, x: Float[Array, "b h w c"]) -> Float[Array, "b d"]:
        """The class token, through the pooler if there is one."""
        first = self(x)[:, 0]
        return first if self.pooler is None else jnp.tanh(self.pooler(first))

    def logits(self, x: Float[Array, "b h w c"]) -> Float[Array, "b k"]:
        """Of the classes. Raises ConfigError if there is no head."""
        if self.head is None:
            raise ConfigError("classes=0: this ViT has no head; ask for tokens or pooled, or load one with classes")
        return self.head(self(x)[:, 0])


def build(config: Config, *, rngs: nnx.Rngs) -> ViT:
    """The encoder that `config` describes, with fresh weights."""
    return ViT(config, rngs=rngs)


def flops(config: Config) -> dict[str, int]:
    """Forward FLOPs of one frame by group (2 per multiply-add, matmuls only)."""
    d, patches = config.width, config.tokens - 1
    return {"blocks": stack_flops(d, config.hidden, config.depth, config.tokens),
            "embed": 2 * patches * config.channels * config.patch[0] * config.patch[1] * d,
            "head": 2 * d * (config.classes + d * config.pooler)}
