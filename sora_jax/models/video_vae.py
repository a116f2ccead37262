"""Causal 3-D video autoencoder: pixels `b f h w 3` in [-1, 1] ⇄ latents `b fl hl wl z`, f = 1 + 4k, by default 4×8×8.

Frame 0 is encoded alone, so an image is a one-frame video and the encoding of a prefix is the prefix of the encoding
(causal convolutions as in MAGVIT-v2, Yu et al. 2023, arXiv 2310.05737; per-position norms keep time causal). A
space-to-depth `patch` comes first; stages then reduce time, height and width. No layer mixes frames backwards, so a
clip can go through in chunks, each with the cache that the one before left.
"""
import dataclasses
import itertools
import math

import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from sora_jax.nn import autoencoder
from sora_jax.nn.autoencoder import Autoencoder, Sides, pair
from sora_jax.nn.blocks import Factored, Residual
from sora_jax.nn.conv import CausalConv3d
from sora_jax.nn.frames import FrameAttention
from sora_jax.nn.norm import RMSNorm
from sora_jax.nn.stream import Past, through
from sora_jax.types import ConfigError

BLOCKS = ("2+1d", "3d")  # kinds of residual block: a convolution in space and one in time, or two in both
START_LOGVAR = -5.0  # a posterior as wide as its prior drowns the first signal: training sits at flat grey for long


@dataclasses.dataclass(frozen=True)
class Config:
    """`time[i]`, `space[i]` reduce between stage i and i + 1; `patch` is the space-to-depth in front of all. A size in
    space is one number, or a (height, width) pair. `attention`: heads of the attention in each frame, where frames are
    smallest; 0: none. `block`: the kind of residual block, "2+1d" or "3d"."""

    patch: Sides = 4
    time: tuple[int, ...] = (2, 2)
    space: tuple[Sides, ...] = (2, 1)
    encoder: tuple[int, ...] = (64, 96, 128)
    decoder: tuple[int, ...] = (96, 128, 192)
    blocks: int = 1
    channels: int = 16
    conv: str = "auto"
    attention: int = 0
    block: str = "2+1d"

    def __post_init__(self):
        autoencoder.check(self)
        if self.block not in BLOCKS:
            raise ConfigError(f"vae.block={self.block!r} is not one of {', '.join(BLOCKS)}")
        last = self.encoder[-1], self.decoder[-1]
        if self.attention < 0 or self.attention and any(width % self.attention for width in last):
            raise ConfigError(f"vae.attention={self.attention} heads do not divide the widths {last} where frames are "
                              "smallest, the last of vae.encoder and vae.decoder; 0 is no attention")

    @property
    def downs(self) -> tuple[tuple[int, int, int], ...]:
        """(time, height, width) reduction after each stage but the last."""
        return tuple((time, *pair(space)) for time, space in zip(self.time, self.space, strict=True))

    @property
    def ratio(self) -> tuple[int, int, int]:
        """(time, height, width) compression."""
        return autoencoder.ratio(self)


def latent_shape(config: Config, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Shape `(fl, hl, wl, z)` of a clip's latents. Raises ConfigError with the nearest size that fits."""
    return autoencoder.latent_shape(config.ratio, config.channels, frames, height, width)


def block(config: Config, width: int, rngs: nnx.Rngs) -> nnx.Module:
    """A residual block of the config's kind."""
    if config.block == "3d":
        return Residual(width, width, impl=config.conv, rngs=rngs)
    return Factored(width, impl=config.conv, rngs=rngs)


def middle(config: Config, width: int, rngs: nnx.Rngs) -> list[nnx.Module]:
    """What the encoder ends with, if anything: attention in each frame, then a block. The decoder begins with its
    mirror image."""
    heads = config.attention
    return [FrameAttention(width, heads, rngs=rngs), block(config, width, rngs)] if heads else []


def kernel(time: int, high: int, wide: int) -> tuple[int, int, int]:
    """Of a convolution that reduces: 3 wide, or as wide as its stride, so that nothing falls between; 1 in time if time
    stays."""
    return max(3, time) if time > 1 else 1, max(3, high), max(3, wide)


def in_turn(stem, stages, between) -> list:
    """The layers in the order in which a clip passes them."""
    pairs = itertools.zip_longest(stages, ([layer] for layer in between), fillvalue=())
    return [stem, *(layer for blocks, after in pairs for layer in (*blocks, *after))]


class Encoder(nnx.Module):
    """Pixels to the mean and log-variance of the latents."""

    def __init__(self, config, *, rngs):
        widths, impl = config.encoder, config.conv
        self.patch = high, wide = pair(config.patch)
        self.stem = CausalConv3d(3 * high * wide, widths[0], (1, 3, 3), impl=impl, rngs=rngs)
        stages, downs = [], []
        for i, width in enumerate(widths):
            stages.append(nnx.List([block(config, width, rngs) for _ in range(config.blocks)]))
            if i < len(config.downs):
                down, wider = config.downs[i], widths[i + 1]
                downs.append(CausalConv3d(width, wider, kernel(*down), stride=down, impl=impl, rngs=rngs))
        self.stages, self.downs = nnx.List(stages), nnx.List(downs)
        self.middle = nnx.List(middle(config, widths[-1], rngs))
        self.norm = RMSNorm(widths[-1], rngs=rngs)
        self.head = CausalConv3d(widths[-1], 2 * config.channels, (1, 1, 1), impl=impl, rngs=rngs)
        quiet = jnp.repeat(jnp.array([0.0, START_LOGVAR]), config.channels)
        self.head.bias.set_value(quiet)

    def __call__(self, x: Float[Array, "b f h w 3"]) -> Float[Array, "b fl hl wl zz"]:
        return self.stream(x, None)[0]

    def stream(self, x: Float[Array, "b f h w 3"], past: Past) -> tuple[Float[Array, "b fl hl wl zz"], Past]:
        """The next frames, with the caches of all layers."""
        x = rearrange(x, "b f (h p) (w q) c -> b f h w (p q c)", p=self.patch[0], q=self.patch[1])
        x, past = through([*in_turn(self.stem, self.stages, self.downs), *self.middle], x, past)
        return self.head(self.norm.silu(x)), past


class Up(nnx.Module):
    """Inverse of a strided convolution: convolve, unfold channels into time and space, drop what precedes frame 0."""

    def __init__(self, width, narrower, down, *, impl, rngs):
        self.down = down
        self.conv = CausalConv3d(width, narrower * math.prod(down), (1, 3, 3), impl=impl, rngs=rngs)

    def stream(self, x: Float[Array, "b f h w d"], past: Past) -> tuple[Float[Array, "b fo ho wo do"], Past]:
        """The next frames; only the beginning of a clip has frames before frame 0 to drop."""
        y, kept = self.conv.stream(x, past)
        time, high, wide = self.down
        y = rearrange(y, "b f h w (t p q d) -> b (f t) (h p) (w q) d", t=time, p=high, q=wide)
        return y[:, time - 1 if past is None else 0 :], kept


class Decoder(nnx.Module):
    """Latents to pixels."""

    def __init__(self, config, *, rngs):
        widths, impl = config.decoder, config.conv
        self.patch = high, wide = pair(config.patch)
        self.stem = CausalConv3d(config.channels, widths[-1], (3, 3, 3), impl=impl, rngs=rngs)
        self.middle = nnx.List(middle(config, widths[-1], rngs)[::-1])
        stages, ups = [], []
        for i in reversed(range(len(widths))):
            stages.append(nnx.List([block(config, widths[i], rngs) for _ in range(config.blocks)]))
            if i:
                ups.append(Up(widths[i], widths[i - 1], config.downs[i - 1], impl=impl, rngs=rngs))
        self.stages, self.ups = nnx.List(stages), nnx.List(ups)
        self.norm = RMSNorm(widths[0], rngs=rngs)
        self.head = CausalConv3d(widths[0], 3 * high * wide, (1, 3, 3), gain=0.3, impl=impl, rngs=rngs)

    def __call__(self, z: Float[Array, "b fl hl wl z"]) -> Float[Array, "b f h w 3"]:
        return self.stream(z, None)[0]

    def stream(self, z: Float[Array, "b fl hl wl z"], past: Past) -> tuple[Float[Array, "b f h w 3"], Past]:
        """The next latent frames, with the caches of all layers."""
        first, *rest = in_turn(self.stem, self.stages, self.ups)
        x, past = through([first, *self.middle, *rest], z, past)
        x = self.head(self.norm.silu(x))
        return rearrange(x, "b f h w (p q c) -> b f (h p) (w q) c", p=self.patch[0], q=self.patch[1]), past


class VideoVAE(Autoencoder):
    """The encoder and the decoder of a config, with their statistics."""

    def __init__(self, config: Config, *, rngs):
        super().__init__(config, Encoder(config, rngs=rngs), Decoder(config, rngs=rngs), rngs=rngs)


def build(config: Config, *, rngs: nnx.Rngs) -> VideoVAE:
    """A VideoVAE; its statistics are zero and one until `launch.train` measures them at the end of training."""
    return VideoVAE(config, rngs=rngs)


def flops(config: Config, frames: int, height: int, width: int) -> dict[str, int]:
    """Forward FLOPs of one clip, multiply and add counted as two, by part; convolutions, matmuls and attention."""
    latent_shape(config, frames, height, width)
    high, wide = pair(config.patch)
    pixels, sizes = 3 * high * wide, [(frames, height // high, width // wide)]
    for time, high, wide in config.downs:
        f, h, w = sizes[-1]
        sizes.append(((f - 1) // time + 1, h // high, w // wide))
    cells = [math.prod(size) for size in sizes]
    last, positions, z = cells[-1], math.prod(sizes[-1][1:]), config.channels
    taps = 54 if config.block == "3d" else 12

    def side(widths: tuple[int, ...]) -> int:
        """Multiplications of what both sides have: the blocks, the convolution at the pixels, the middle."""
        d = widths[-1]
        attended = (4 + taps) * d * d + 2 * positions * d if config.attention else 0
        return (sum(config.blocks * taps * width**2 * n for width, n in zip(widths, cells, strict=True))
                + 9 * pixels * widths[0] * cells[0] + attended * last)

    total = {"encoder": side(config.encoder) + config.encoder[-1] * 2 * z * last,
             "decoder": side(config.decoder) + 27 * z * config.decoder[-1] * last}
    for i, down in enumerate(config.downs):
        total["encoder"] += math.prod(kernel(*down)) * config.encoder[i] * config.encoder[i + 1] * cells[i + 1]
        total["decoder"] += 9 * config.decoder[i + 1] * config.decoder[i] * math.prod(down) * cells[i + 1]
    return {name: 2 * count for name, count in total.items()}
