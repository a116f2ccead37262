"""Causal 3-D video autoencoder: pixels `b f h w 3` in [-1, 1] ⇄ latents `b fl hl wl z`, f = 1 + 4k, by default 4×8×8.

Frame 0 is encoded alone, so an image is a one-frame video and the encoding of a prefix is the prefix of the encoding
(causal convolutions as in MAGVIT-v2, Yu et al. 2023, arXiv 2310.05737; per-position norms keep time causal). A
space-to-depth `patch` comes first; each stage then halves time and/or space. No layer mixes frames backwards, so a
clip can go through in chunks, each with the cache that the one before left.
"""
import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from sora_jax.nn import autoencoder
from sora_jax.nn.autoencoder import Autoencoder
from sora_jax.nn.conv import CausalConv3d
from sora_jax.nn.norm import RMSNorm
from sora_jax.nn.stream import Past, through

START_LOGVAR = -5.0  # a posterior as wide as its prior drowns the first signal: training sits at flat grey for long


@dataclasses.dataclass(frozen=True)
class Config:
    """`time[i]`, `space[i]` reduce between stage i and i + 1; `patch` is the space-to-depth in front of all."""

    patch: int = 4
    time: tuple[int, ...] = (2, 2)
    space: tuple[int, ...] = (2, 1)
    encoder: tuple[int, ...] = (64, 96, 128)
    decoder: tuple[int, ...] = (96, 128, 192)
    blocks: int = 1
    channels: int = 16
    conv: str = "auto"

    def __post_init__(self):
        autoencoder.check(self.encoder, self.decoder, self.time, self.space, self.conv)

    @property
    def downs(self) -> tuple[tuple[int, int], ...]:
        """(time, space) reduction after each stage but the last."""
        return tuple(zip(self.time, self.space, strict=True))

    @property
    def ratio(self) -> tuple[int, int]:
        """(time, space) compression."""
        return math.prod(self.time), self.patch * math.prod(self.space)


def latent_shape(config: Config, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Shape `(fl, hl, wl, z)` of a clip's latents. Raises ConfigError with the nearest size that fits."""
    return autoencoder.latent_shape(config.ratio, config.channels, frames, height, width)


class Block(nnx.Module):
    """Residual block: a 1×3×3 convolution in space, then a causal 3×1×1 in time."""

    def __init__(self, width, *, impl, rngs):
        self.norm_space = RMSNorm(width, rngs=rngs)
        self.space = CausalConv3d(width, width, (1, 3, 3), impl=impl, rngs=rngs)
        self.norm_time = RMSNorm(width, rngs=rngs)
        self.time = CausalConv3d(width, width, (3, 1, 1), gain=0.3, impl=impl, rngs=rngs)

    def stream(self, x: Float[Array, "b f h w d"], past: Past) -> tuple[Float[Array, "b f h w d"], Past]:
        """The next frames, with the cache of the convolution in time."""
        y = self.space(jax.nn.silu(self.norm_space(x)))
        y, past = self.time.stream(jax.nn.silu(self.norm_time(y)), past)
        return x + y, past


def in_turn(stem, stages, between) -> list:
    """The layers in the order in which a clip passes them."""
    pairs = itertools.zip_longest(stages, ([layer] for layer in between), fillvalue=())
    return [stem, *(layer for blocks, after in pairs for layer in (*blocks, *after))]


class Encoder(nnx.Module):
    """Pixels to the mean and log-variance of the latents."""

    def __init__(self, config, *, rngs):
        widths, impl = config.encoder, config.conv
        self.patch = config.patch
        self.stem = CausalConv3d(3 * config.patch**2, widths[0], (1, 3, 3), impl=impl, rngs=rngs)
        stages, downs = [], []
        for i, width in enumerate(widths):
            stages.append(nnx.List([Block(width, impl=impl, rngs=rngs) for _ in range(config.blocks)]))
            if i < len(config.downs):
                (time, space), wider = config.downs[i], widths[i + 1]
                kernel = (3 if time > 1 else 1, 3, 3)
                downs.append(CausalConv3d(width, wider, kernel, stride=(time, space, space), impl=impl, rngs=rngs))
        self.stages, self.downs = nnx.List(stages), nnx.List(downs)
        self.norm = RMSNorm(widths[-1], rngs=rngs)
        self.head = CausalConv3d(widths[-1], 2 * config.channels, (1, 1, 1), impl=impl, rngs=rngs)
        quiet = jnp.repeat(jnp.array([0.0, START_LOGVAR]), config.channels)
        self.head.bias.set_value(quiet)

    def __call__(self, x: Float[Array, "b f h w 3"]) -> Float[Array, "b fl hl wl zz"]:
        return self.stream(x, None)[0]

    def stream(self, x: Float[Array, "b f h w 3"], past: Past) -> tuple[Float[Array, "b fl hl wl zz"], Past]:
        """The next frames, with the caches of all layers."""
        x = rearrange(x, "b f (h p) (w q) c -> b f h w (p q c)", p=self.patch, q=self.patch)
        x, past = through(in_turn(self.stem, self.stages, self.downs), x, past)
        return self.head(jax.nn.silu(self.norm(x))), past


class Up(nnx.Module):
    """Inverse of a strided convolution: convolve, unfold channels into time and space, drop what precedes frame 0."""

    def __init__(self, width, narrower, time, space, *, impl, rngs):
        self.time, self.space = time, space
        self.conv = CausalConv3d(width, narrower * time * space**2, (1, 3, 3), impl=impl, rngs=rngs)

    def stream(self, x: Float[Array, "b f h w d"], past: Past) -> tuple[Float[Array, "b fo ho wo do"], Past]:
        """The next frames; only the beginning of a clip has frames before frame 0 to drop."""
        y, kept = self.conv.stream(x, past)
        y = rearrange(y, "b f h w (t p q d) -> b (f t) (h p) (w q) d", t=self.time, p=self.space, q=self.space)
        return y[:, self.time - 1 if past is None else 0 :], kept


class Decoder(nnx.Module):
    """Latents to pixels."""

    def __init__(self, config, *, rngs):
        widths, impl = config.decoder, config.conv
        self.patch = config.patch
        self.stem = CausalConv3d(config.channels, widths[-1], (3, 3, 3), impl=impl, rngs=rngs)
        stages, ups = [], []
        for i in reversed(range(len(widths))):
            stages.append(nnx.List([Block(widths[i], impl=impl, rngs=rngs) for _ in range(config.blocks)]))
            if i:
                time, space = config.downs[i - 1]
                ups.append(Up(widths[i], widths[i - 1], time, space, impl=impl, rngs=rngs))
        self.stages, self.ups = nnx.List(stages), nnx.List(ups)
        self.norm = RMSNorm(widths[0], rngs=rngs)
        self.head = CausalConv3d(widths[0], 3 * config.patch**2, (1, 3, 3), gain=0.3, impl=impl, rngs=rngs)

    def __call__(self, z: Float[Array, "b fl hl wl z"]) -> Float[Array, "b f h w 3"]:
        return self.stream(z, None)[0]

    def stream(self, z: Float[Array, "b fl hl wl z"], past: Past) -> tuple[Float[Array, "b f h w 3"], Past]:
        """The next latent frames, with the caches of all layers."""
        x, past = through(in_turn(self.stem, self.stages, self.ups), z, past)
        x = self.head(jax.nn.silu(self.norm(x)))
        return rearrange(x, "b f h w (p q c) -> b f (h p) (w q) c", p=self.patch, q=self.patch), past


class VideoVAE(Autoencoder):
    """The encoder and the decoder of a config, with their statistics."""

    def __init__(self, config: Config, *, rngs):
        super().__init__(config, Encoder(config, rngs=rngs), Decoder(config, rngs=rngs), rngs=rngs)


def build(config: Config, *, rngs: nnx.Rngs) -> VideoVAE:
    """A VideoVAE; its statistics are zero and one until `launch.train` measures them at the end of training."""
    return VideoVAE(config, rngs=rngs)


def flops(config: Config, frames: int, height: int, width: int) -> dict[str, int]:
    """Forward FLOPs of one clip, multiply and add counted as two, by part; convolutions only."""
    latent_shape(config, frames, height, width)
    total = {"encoder": 0, "decoder": 0}
    sizes = [(frames, height // config.patch, width // config.patch)]
    for time, space in config.downs:
        f, h, w = sizes[-1]
        sizes.append(((f - 1) // time + 1, h // space, w // space))
    cells = [math.prod(size) for size in sizes]
    pixels = 3 * config.patch**2
    for side, widths in (("encoder", config.encoder), ("decoder", config.decoder)):
        total[side] += sum(config.blocks * 2 * 12 * d * d * n for d, n in zip(widths, cells, strict=True))
        total[side] += 2 * 9 * pixels * widths[0] * cells[0]
    for i, (time, space) in enumerate(config.downs):
        total["encoder"] += 2 * (27 if time > 1 else 9) * config.encoder[i] * config.encoder[i + 1] * cells[i + 1]
        total["decoder"] += 2 * 9 * config.decoder[i + 1] * config.decoder[i] * time * space**2 * cells[i + 1]
    total["encoder"] += 2 * config.encoder[-1] * 2 * config.channels * cells[-1]
    total["decoder"] += 2 * 27 * config.channels * config.decoder[-1] * cells[-1]
    return total
