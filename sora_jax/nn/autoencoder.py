"""What every video autoencoder does around its networks: moments, samples, unit-scaled latents, chunks.

The networks are `encoder`, pixels to means beside log-variances, and `decoder`, latents to pixels; both stream.
"""
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from sora_jax.nn.axes import param
from sora_jax.nn.conv import IMPLS
from sora_jax.nn.stream import Past
from sora_jax.types import ConfigError

Sides = int | tuple[int, int]


def pair(sides: Sides) -> tuple[int, int]:
    """(height, width) of a size that may be the same for both."""
    return tuple(sides) if isinstance(sides, tuple | list) else (sides, sides)


def check(config: Any) -> None:
    """ConfigError naming the fields of `vae` that make no autoencoder: a width per stage, a reduction between each two
    that can be, and a convolution that there is."""
    if not len(config.encoder) == len(config.decoder) == len(config.time) + 1 == len(config.space) + 1:
        raise ConfigError(f"vae.encoder={config.encoder} and vae.decoder={config.decoder} need one width per stage, and"
                          " vae.time and vae.space one reduction between each two: "
                          f"{len(config.time) + 1} stages here")
    for name, size in (("patch", config.patch), *(("space", size) for size in config.space)):
        if len(pair(size)) != 2 or not all(whole(side) for side in pair(size)):
            raise ConfigError(f"vae.{name}={getattr(config, name)}: {size!r} is no whole number from 1, nor a (height, "
                              "width) pair of them")
    if not all(whole(size) for size in config.time):
        raise ConfigError(f"vae.time={config.time}: every reduction must be a whole number from 1")
    if config.conv not in IMPLS:
        raise ConfigError(f"vae.conv={config.conv!r} is not one of {', '.join(IMPLS)}")


def whole(size: Any) -> bool:
    """Whether a size is a whole number from 1."""
    return isinstance(size, int) and not isinstance(size, bool) and size >= 1


def ratio(config: Any) -> tuple[int, int, int]:
    """(time, height, width) compression of a config's `patch`, `time` and `space`."""
    high, wide = zip(pair(config.patch), *map(pair, config.space), strict=True)
    return math.prod(config.time), math.prod(high), math.prod(wide)


def latent_shape(ratio: tuple[int, int, int], channels: int, frames: int, height: int,
                 width: int) -> tuple[int, int, int, int]:
    """Shape `(fl, hl, wl, z)` of a clip's latents at a (time, height, width) compression. Raises ConfigError with the
    nearest size that fits."""
    time, *sides = ratio
    if (frames - 1) % time or frames < 1:
        near = 1 + max(0, round((frames - 1) / time)) * time
        raise ConfigError(f"data.frames={frames}: the VAE needs 1 + {time}k frames; use {near}")
    for name, size, side in zip(("height", "width"), (height, width), sides, strict=True):
        if size % side or size < side:
            near = max(1, round(size / side)) * side
            raise ConfigError(f"data.{name}={size} is not a multiple of the VAE's {side}; use {near}")
    return 1 + (frames - 1) // time, height // sides[0], width // sides[1], channels


class Autoencoder(nnx.Module):
    """Encoder, decoder, and the per-channel mean and standard deviation that make latents unit-scaled."""

    logvar_range = (-20.0, 10.0)

    def __init__(self, config, encoder: nnx.Module, decoder: nnx.Module, *, rngs: nnx.Rngs):
        self.config = config
        self.encoder = encoder
        self.decoder = decoder
        self.mean = param(rngs.params(), jax.nn.initializers.zeros, (config.channels,), (None,))
        self.std = param(rngs.params(), jax.nn.initializers.ones, (config.channels,), (None,))

    def moments(
        self, x: Float[Array, "b f h w 3"]
    ) -> tuple[Float[Array, "b fl hl wl z"], Float[Array, "b fl hl wl z"]]:
        """Posterior mean and log-variance, the latter clipped to `logvar_range`."""
        mean, logvar = jnp.split(self.encoder(x), 2, -1)
        return mean, jnp.clip(logvar, *self.logvar_range)

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
        return self.shown(self.decoder(z * self.std[...] + self.mean[...]))

    def encode_chunk(
        self, x: Float[Array, "b f h w 3"], past: Past = None
    ) -> tuple[Float[Array, "b fl hl wl z"], Past]:
        """`encode` of the next frames and the cache for those after: 1 + time·k of them at the beginning of a clip,
        where `past` is None, and time·k later. Chunks laid side by side are the whole."""
        moments, past = self.encoder.stream(x, past)
        return (jnp.split(moments, 2, -1)[0] - self.mean[...]) / self.std[...], past

    def decode_chunk(
        self, z: Float[Array, "b fl hl wl z"], past: Past = None
    ) -> tuple[Float[Array, "b f h w 3"], Past]:
        """`decode` of the next latent frames, any number of them, and the cache for those after."""
        x, past = self.decoder.stream(z * self.std[...] + self.mean[...], past)
        return self.shown(x), past

    def shown(self, x: Float[Array, "b f h w 3"]) -> Float[Array, "b f h w 3"]:
        """What the decoder says, as pixels."""
        return x
