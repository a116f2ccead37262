"""Fixed sinusoidal features of times and of token positions (Vaswani et al. 2017, section 3.5)."""
import math

import jax.numpy as jnp
from jaxtyping import Array, Float


def sinusoids(value: Float[Array, "*s"], width: int, period: float = 10_000.0,
              ends: bool = False) -> Float[Array, "*s d"]:
    """[cos, sin] of `value` at `width // 2` frequencies spaced geometrically from 1 to 1 / period, which is the last
    one if it `ends` there, and else would be the next."""
    half = width // 2
    frequency = jnp.exp(-math.log(period) * jnp.arange(half, dtype=jnp.float32) / (half - ends))
    angle = value.astype(jnp.float32)[..., None] * frequency
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def timestep(t: Float[Array, "*s"], width: int, shift: float = 0.0, ends: bool = False) -> Float[Array, "*s d"]:
    """Features of diffusion time t in [0, 1], stretched to the 0..1000 that DiT's frequencies were chosen for.
    A `shift` of -1 tells the index of DDPM's step, from 0."""
    return sinusoids(1000.0 * t + shift, width, ends=ends)


def axis_widths(width: int) -> tuple[int, int, int]:
    """An even width split into even widths for (frame, row, column); what does not divide goes to the frames."""
    space = 2 * (width // 6)
    return width - 2 * space, space, space


def sincos(positions: Float[Array, "*s 3"], width: int, period: float = 100.0) -> Float[Array, "*s d"]:
    """Absolute position features: the sinusoids of frame, row and column side by side.

    The period is short because grids are: at 10 000 most frequencies are constant over a few dozen tokens."""
    parts = [sinusoids(positions[..., i], w, period) for i, w in enumerate(axis_widths(width))]
    return jnp.concatenate(parts, axis=-1)
