"""Rotary position embedding over three axes (Su et al. 2021, eq. 34; split over axes as in Wan and HunyuanVideo).

Positions in, (cos, sin) out, once per forward pass; `rotate` applies them to queries and keys.
"""
import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from sora_jax.nn.embed import axis_widths

Rotation = tuple[Float[Array, "b n r"], Float[Array, "b n r"]]


def rotation(positions: Float[Array, "b n 3"], width: int, theta: float = 100.0) -> Rotation:
    """cos and sin of the angle of every pair of a head of `width`, whose pairs are shared by frame, row and column."""
    angles = []
    for i, axis in enumerate(axis_widths(width)):
        frequency = jnp.exp(-math.log(theta) * jnp.arange(axis // 2, dtype=jnp.float32) / max(axis // 2, 1))
        angles.append(positions[..., i, None].astype(jnp.float32) * frequency)
    angle = jnp.concatenate(angles, axis=-1)
    return jnp.cos(angle), jnp.sin(angle)


def rotate(x: Float[Array, "b n a e"], by: Rotation) -> Float[Array, "b n a e"]:
    """Every pair (i, i + e/2) of each head turned by its angle, so that q·k depends on differences of position."""
    cos, sin = (part[:, :, None, :].astype(x.dtype) for part in by)
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
