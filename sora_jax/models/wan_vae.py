"""The autoencoder of Wan 2.1 (Wan Team 2025, arXiv 2503.20314, section 4.1): pixels `b f h w 3` ⇄ latents 4×8×8.

Causal 3×3×3 residual blocks, attention within each frame at the coarsest size, and space and time resampled apart.
Frame 0 never meets a convolution that resamples time: going down it passes as it is, and going up the others see zeros
in its place. At equal weights it is the function of diffusers' AutoencoderKLWan; see `sora_jax.bridge`.
"""
import dataclasses
import math

import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from sora_jax.nn import autoencoder
from sora_jax.nn.autoencoder import Autoencoder
from sora_jax.nn.blocks import Residual
from sora_jax.nn.conv import CausalConv3d
from sora_jax.nn.frames import DoubledConv, FrameAttention, FrameConv
from sora_jax.nn.norm import RMSNorm
from sora_jax.nn.stream import Past, last_frames, through
from sora_jax.types import ConfigError

NORM_FLOOR = 1e-24  # of a squared length: the published norm divides by the length, and by 1e-12 if that is more


@dataclasses.dataclass(frozen=True)
class Config:
    """`time[i]` (1 or 2) and `space[i]` (2) reduce between stage i and i + 1; the encoder has `blocks` residual blocks
    a stage, the decoder one more. The default is the published autoencoder."""

    patch: int = 1
    time: tuple[int, ...] = (1, 2, 2)
    space: tuple[int, ...] = (2, 2, 2)
    encoder: tuple[int, ...] = (96, 192, 384, 384)
    decoder: tuple[int, ...] = (96, 192, 384, 384)
    blocks: int = 2
    channels: int = 16
    conv: str = "auto"

    def __post_init__(self):
        autoencoder.check(self)
        if self.patch != 1 or set(self.space) - {2} or set(self.time) - {1, 2}:
            raise ConfigError(f"vae.patch={self.patch}, vae.space={self.space}, vae.time={self.time}: vae.name=wan_vae"
                              " has patch 1, halves space between all stages, and time or not (2 or 1)")
        if any(width % 2 for width in self.decoder[1:]):
            raise ConfigError(f"vae.decoder={self.decoder}: every width but the first is halved, so make it even")

    @property
    def ratio(self) -> tuple[int, int, int]:
        """(time, height, width) compression."""
        return autoencoder.ratio(self)


def latent_shape(config: Config, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Shape `(fl, hl, wl, z)` of a clip's latents. Raises ConfigError with the nearest size that fits."""
    return autoencoder.latent_shape(config.ratio, config.channels, frames, height, width)


def norm(width: int, rngs: nnx.Rngs) -> RMSNorm:
    """Unit root mean square over the channels of a position, times a gain."""
    return RMSNorm(width, epsilon=NORM_FLOOR / width, rngs=rngs)


def block(cin: int, cout: int, impl: str, rngs: nnx.Rngs) -> Residual:
    """A residual block with this family's norm."""
    return Residual(cin, cout, impl=impl, norm=norm, rngs=rngs)


def apart(x: Float[Array, "b f h w d"], past: Past, before: Float[Array, "b p h w d"]):
    """Frame 0 of a clip, if `x` begins with it, the frames after it, and the cache that these go on from."""
    return (x[:, :1], x[:, 1:], last_frames(before, None, 2)) if past is None else (x[:, :0], x, past)


class Down(nnx.Module):
    """Halves the frame, and the number of frames after frame 0 if `time` is 2."""

    def __init__(self, width, time, *, impl, rngs):
        self.frame = FrameConv(width, width, stride=2, pad=(0, 1), rngs=rngs)
        self.time = CausalConv3d(width, width, (3, 1, 1), stride=(2, 1, 1), impl=impl, rngs=rngs) if time > 1 else None

    def stream(self, x: Float[Array, "b f h w d"], past: Past) -> tuple[Float[Array, "b fo ho wo d"], Past]:
        """The next frames, with the cache of the convolution in time."""
        x = self.frame(x)
        if self.time is None:
            return x, None
        first, rest, past = apart(x, past, x[:, :1])
        if rest.shape[1]:
            rest, past = self.time.stream(rest, past)
        return jnp.concatenate([first, rest], 1), past


class Up(nnx.Module):
    """Doubles the number of frames after frame 0 if `time` is 2, then the frame; halves the channels."""

    def __init__(self, width, time, *, impl, rngs):
        self.time = CausalConv3d(width, 2 * width, (3, 1, 1), impl=impl, rngs=rngs) if time > 1 else None
        self.frame = DoubledConv(width, width // 2, impl=impl, rngs=rngs)

    def stream(self, x: Float[Array, "b f h w d"], past: Past) -> tuple[Float[Array, "b fo ho wo do"], Past]:
        """The next frames, with the cache of the convolution in time."""
        if self.time is not None:
            first, rest, past = apart(x, past, x[:, :0])
            if rest.shape[1]:
                rest, past = self.time.stream(rest, past)
                rest = rearrange(rest, "b f h w (t d) -> b (f t) h w d", t=2)
            x = jnp.concatenate([first, rest], 1)
        return self.frame(x), past


def middle(width: int, impl: str, rngs: nnx.Rngs) -> nnx.List:
    """Attention between two residual blocks."""
    return nnx.List([block(width, width, impl, rngs), FrameAttention(width, norm=norm, rngs=rngs),
                     block(width, width, impl, rngs)])


class Encoder(nnx.Module):
    """Pixels to the mean and log-variance of the latents."""

    def __init__(self, config, *, rngs):
        widths, impl, z = config.encoder, config.conv, 2 * config.channels
        self.stem = CausalConv3d(3, widths[0], impl=impl, rngs=rngs)
        layers = []
        for i, width in enumerate(widths):
            before = [widths[max(0, i - 1)]] + [width] * (config.blocks - 1)
            layers += [block(cin, width, impl, rngs) for cin in before]
            layers += [Down(width, time, impl=impl, rngs=rngs) for time in config.time[i:i + 1]]
        self.down, self.middle = nnx.List(layers), middle(widths[-1], impl, rngs)
        self.norm = norm(widths[-1], rngs)
        self.head = CausalConv3d(widths[-1], z, impl=impl, rngs=rngs)
        self.quant = CausalConv3d(z, z, (1, 1, 1), impl=impl, rngs=rngs)

    def __call__(self, x: Float[Array, "b f h w 3"]) -> Float[Array, "b fl hl wl zz"]:
        return self.stream(x, None)[0]

    def stream(self, x: Float[Array, "b f h w 3"], past: Past) -> tuple[Float[Array, "b fl hl wl zz"], Past]:
        """The next frames, with the caches of all layers."""
        inner, last = (None, None) if past is None else past
        x, inner = through([self.stem, *self.down, *self.middle], x, inner)
        x, last = self.head.stream(self.norm.silu(x), last)
        return self.quant(x), (inner, last)


class Decoder(nnx.Module):
    """Latents to pixels."""

    def __init__(self, config, *, rngs):
        widths, impl, z = config.decoder, config.conv, config.channels
        self.quant = CausalConv3d(z, z, (1, 1, 1), impl=impl, rngs=rngs)
        self.stem = CausalConv3d(z, widths[-1], impl=impl, rngs=rngs)
        self.middle = middle(widths[-1], impl, rngs)
        layers, cin = [], widths[-1]
        for i, width in reversed(list(enumerate(widths))):
            for _ in range(config.blocks + 1):
                layers.append(block(cin, width, impl, rngs))
                cin = width
            if i:
                layers.append(Up(width, config.time[i - 1], impl=impl, rngs=rngs))
                cin = width // 2
        self.up, self.norm = nnx.List(layers), norm(widths[0], rngs)
        self.head = CausalConv3d(widths[0], 3, impl=impl, rngs=rngs)

    def __call__(self, z: Float[Array, "b fl hl wl z"]) -> Float[Array, "b f h w 3"]:
        return self.stream(z, None)[0]

    def stream(self, z: Float[Array, "b fl hl wl z"], past: Past) -> tuple[Float[Array, "b f h w 3"], Past]:
        """The next latent frames, with the caches of all layers."""
        inner, last = (None, None) if past is None else past
        x, inner = through([self.stem, *self.middle, *self.up], self.quant(z), inner)
        x, last = self.head.stream(self.norm.silu(x), last)
        return x, (inner, last)


class WanVAE(Autoencoder):
    """The encoder and the decoder of a config, with their statistics."""

    logvar_range = (-30.0, 20.0)

    def __init__(self, config: Config, *, rngs):
        super().__init__(config, Encoder(config, rngs=rngs), Decoder(config, rngs=rngs), rngs=rngs)

    def shown(self, x: Float[Array, "b f h w 3"]) -> Float[Array, "b f h w 3"]:
        """Pixels, clipped to [-1, 1]."""
        return jnp.clip(x, -1.0, 1.0)


def build(config: Config, *, rngs: nnx.Rngs) -> WanVAE:
    """A WanVAE with fresh weights; its statistics are zero and one until they are measured or imported."""
    return WanVAE(config, rngs=rngs)


def flops(config: Config, frames: int, height: int, width: int) -> dict[str, int]:
    """Forward FLOPs of one clip, multiply and add counted as two, by part; convolutions, matmuls and attention."""
    latent_shape(config, frames, height, width)
    sizes = [(frames, height * width)]
    for time in config.time:
        f, cells = sizes[-1]
        sizes.append(((f - 1) // time + 1, cells // 4))
    (last, cells), z = sizes[-1], config.channels

    def side(widths: tuple[int, ...], blocks: int, outer: int, inner: int) -> int:
        """Multiplications of what both sides have: stem and head, blocks of equal width, the middle."""
        d = widths[-1]
        return (27 * outer * widths[0] * math.prod(sizes[0]) + (27 * inner * d + 112 * d * d) * last * cells
                + 2 * d * last * cells**2
                + sum(54 * blocks * w * w * math.prod(size) for w, size in zip(widths, sizes, strict=True)))

    total = {"encoder": side(config.encoder, config.blocks, 3, 2 * z) + 4 * z * z * last * cells,
             "decoder": side(config.decoder, config.blocks + 1, 3, z) + z * z * last * cells}
    for i, time in enumerate(config.time):
        (f, n), (fo, no), w, wider = sizes[i], sizes[i + 1], config.encoder[i], config.encoder[i + 1]
        total["encoder"] += (9 * f * no + 3 * (time - 1) * (fo - 1) * no) * w * w + change(w, wider) * fo * no
        w, wider = config.decoder[i], config.decoder[i + 1]
        total["decoder"] += (9 * f * n // 2 + 6 * (time - 1) * (fo - 1) * no) * wider**2 + change(wider // 2, w) * f * n
    return {name: 2 * count for name, count in total.items()}


def change(cin: int, cout: int) -> int:
    """Multiplications that a block of `cin` to `cout` channels has beyond one of `cout` channels, by position."""
    return 27 * (cin - cout) * cout + (cin != cout) * cin * cout
