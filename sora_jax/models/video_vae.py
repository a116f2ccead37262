"""Causal 3-D video autoencoder: pixels `b f h w 3` in [-1, 1] ⇄ latents `b fl hl wl z`, f = 1 + 4k, by default 4×8×8.

Frame 0 is encoded alone, so an image is a one-frame video and the encoding of a prefix is the prefix of the encoding
(causal convolutions as in MAGVIT-v2, Yu et al. 2023, arXiv 2310.05737; per-position norms keep time causal). A
space-to-depth `patch` comes first; each stage then halves time and/or space. No layer mixes frames backwards.
"""
import dataclasses
import math

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from sora_jax.nn.axes import param
from sora_jax.nn.conv import IMPLS, CausalConv3d
from sora_jax.nn.norm import RMSNorm
from sora_jax.types import ConfigError

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
        if not len(self.encoder) == len(self.decoder) == len(self.time) + 1 == len(self.space) + 1:
            raise ConfigError(
                f"vae.encoder={self.encoder} and vae.decoder={self.decoder} need one width per stage, and vae.time and"
                f" vae.space one reduction between each two: {len(self.time) + 1} stages here"
            )
        if self.conv not in IMPLS:
            raise ConfigError(f"vae.conv={self.conv!r} is not one of {', '.join(IMPLS)}")

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
    time, space = config.ratio
    if (frames - 1) % time or frames < 1:
        near = 1 + max(0, round((frames - 1) / time)) * time
        raise ConfigError(f"data.frames={frames}: the VAE needs 1 + {time}k frames; use {near}")
    for name, size in (("height", height), ("width", width)):
        if size % space or size < space:
            near = max(1, round(size / space)) * space
            raise ConfigError(f"data.{name}={size} is not a multiple of the VAE's {space}; use {near}")
    return 1 + (frames - 1) // time, height // space, width // space, config.channels


class Block(nnx.Module):
    """Residual block: a 1×3×3 convolution in space, then a causal 3×1×1 in time."""

    def __init__(self, width, *, impl, rngs):
        self.norm_space = RMSNorm(width, rngs=rngs)
        self.space = CausalConv3d(width, width, (1, 3, 3), impl=impl, rngs=rngs)
        self.norm_time = RMSNorm(width, rngs=rngs)
        self.time = CausalConv3d(width, width, (3, 1, 1), gain=0.3, impl=impl, rngs=rngs)

    def __call__(self, x: Float[Array, "b f h w d"]) -> Float[Array, "b f h w d"]:
        y = self.space(jax.nn.silu(self.norm_space(x)))
        return x + self.time(jax.nn.silu(self.norm_time(y)))


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
        x = self.stem(rearrange(x, "b f (h p) (w q) c -> b f h w (p q c)", p=self.patch, q=self.patch))
        for i, blocks in enumerate(self.stages):
            for block in blocks:
                x = block(x)
            if i < len(self.downs):
                x = self.downs[i](x)
        return self.head(jax.nn.silu(self.norm(x)))


class Up(nnx.Module):
    """Inverse of a strided convolution: convolve, unfold channels into time and space, drop what precedes frame 0."""

    def __init__(self, width, narrower, time, space, *, impl, rngs):
        self.time, self.space = time, space
        self.conv = CausalConv3d(width, narrower * time * space**2, (1, 3, 3), impl=impl, rngs=rngs)

    def __call__(self, x: Float[Array, "b f h w d"]) -> Float[Array, "b fo ho wo do"]:
        x = rearrange(
            self.conv(x),
            "b f h w (t p q d) -> b (f t) (h p) (w q) d",
            t=self.time, p=self.space, q=self.space,
        )
        return x[:, self.time - 1 :]


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
        x = self.stem(z)
        for i, blocks in enumerate(self.stages):
            for block in blocks:
                x = block(x)
            if i < len(self.ups):
                x = self.ups[i](x)
        x = self.head(jax.nn.silu(self.norm(x)))
        return rearrange(x, "b f h w (p q c) -> b f (h p) (w q) c", p=self.patch, q=self.patch)


class VideoVAE(nnx.Module):
    """Encoder, decoder, and the per-channel mean and standard deviation that make latents unit-scaled."""

    def __init__(self, config: Config, *, rngs):
        self.config = config
        self.encoder = Encoder(config, rngs=rngs)
        self.decoder = Decoder(config, rngs=rngs)
        self.mean = param(rngs.params(), jax.nn.initializers.zeros, (config.channels,), (None,))
        self.std = param(rngs.params(), jax.nn.initializers.ones, (config.channels,), (None,))

    def moments(
        self, x: Float[Array, "b f h w 3"]
    ) -> tuple[Float[Array, "b fl hl wl z"], Float[Array, "b fl hl wl z"]]:
        """Posterior mean and log-variance (clipped to [-20, 10])."""
        mean, logvar = jnp.split(self.encoder(x), 2, -1)
        return mean, jnp.clip(logvar, -20.0, 10.0)

    def __call__(self, x: Float[Array, "b f h w 3"], key: PRNGKeyArray):
        """Reconstruction from a posterior sample, with the moments: `(b f h w 3, mean, logvar)`."""
        mean, logvar = self.moments(x)
        z = mean + jnp.exp(0.5 * logvar) * jax.random.normal(key, mean.shape, mean.dtype)
        return self.decoder(z), mean, logvar

    def encode(self, x: Float[Array, "b f h w 3"]) -> Float[Array, "b fl hl wl z"]:
        """Posterior mean, normalised per channel: what the diffusion model sees."""
        return (self.moments(x)[0] - self.mean[...]) / self.std[...]

    def decode(self, z: Float[Array, "b fl hl wl z"]) -> Float[Array, "b f h w 3"]:
        """Normalised latents back to pixels in about [-1, 1]."""
        return self.decoder(z * self.std[...] + self.mean[...])


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
