"""A critic of clips: pixels `b f h w 3` in [-1, 1] to one number for every patch of space and time, high if it is real.

A convolutional critic as in DCGAN (Radford et al. 2015, arXiv 1511.06434: strides for pooling, leaky slopes), of
patches as in pix2pix (Isola et al. 2016, arXiv 1611.07004), in three dimensions. Frames are folded into cells of
`patch`² pixels first, which is what makes it quick. Causal in time, so a clip of one frame is an image.
"""
import dataclasses

import jax
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from sora_jax.nn.conv import CausalConv3d
from sora_jax.nn.norm import RMSNorm
from sora_jax.types import ConfigError

SLOPE = 0.2  # of the leaky units below zero


@dataclasses.dataclass(frozen=True)
class Config:
    """`patch`: side of a cell; `depth` convolutions double the `width`, all but the last halve frames and cells."""

    patch: int = 4
    width: int = 32
    depth: int = 2
    conv: str = "auto"

    @property
    def layers(self) -> list[tuple[int, int, int]]:
        """(width in, width out, stride) of every convolution between the first and the head."""
        return [(self.width * 2**i, self.width * 2 ** (i + 1), 2 if i + 1 < self.depth else 1)
                for i in range(self.depth)]


def grid(config: Config, frames: int, height: int, width: int) -> tuple[int, int, int]:
    """Frames, rows and columns of cells. Raises ConfigError if cells do not fill the frame."""
    if height % config.patch or width % config.patch:
        raise ConfigError(f"critic.patch={config.patch} does not divide frames of {height}×{width}; change it")
    return frames, height // config.patch, width // config.patch


class Critic(nnx.Module):
    """Cells, then convolutions in space and time, each normalised at every position, then one number a position."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.patch, impl = config.patch, config.conv
        self.stem = CausalConv3d(3 * config.patch**2, config.width, (1, 1, 1), impl=impl, rngs=rngs)
        self.layers = nnx.List([CausalConv3d(a, b, stride=(s, s, s), impl=impl, rngs=rngs)
                                for a, b, s in config.layers])
        self.norms = nnx.List([RMSNorm(b, rngs=rngs) for _, b, _ in config.layers])
        self.head = CausalConv3d(config.width * 2**config.depth, 1, (1, 3, 3), impl=impl, rngs=rngs)

    def __call__(self, x: Float[Array, "b f h w 3"]) -> Float[Array, "b _fo _ho _wo"]:
        x = rearrange(x, "b f (h p) (w q) c -> b f h w (p q c)", p=self.patch, q=self.patch)
        x = jax.nn.leaky_relu(self.stem(x), SLOPE)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = jax.nn.leaky_relu(norm(layer(x)), SLOPE)
        return self.head(x)[..., 0]


def build(config: Config, *, rngs: nnx.Rngs) -> Critic:
    """Random weights."""
    return Critic(config, rngs=rngs)


def flops(config: Config, frames: int, height: int, width: int) -> dict[str, int]:
    """Forward FLOPs of one clip, multiply and add counted as two; convolutions only. A multiple of three."""
    f, h, w = grid(config, frames, height, width)
    total = 3 * config.patch**2 * config.width * f * h * w
    for before, after, stride in config.layers:
        f, h, w = (-(-size // stride) for size in (f, h, w))
        total += 27 * before * after * f * h * w
    return {"critic": 2 * (total + 9 * config.width * 2**config.depth * f * h * w)}
