"""Weights that carry the names of their axes.

A layer names every axis of a weight where it creates it; `sora_jax.mesh` alone maps names to mesh axes.
Names: "embed" residual width · "mlp" · "heads" heads times head width · "layers" the scanned stack · "vocab" · "in"
and "out" of anything else · "conv" kernel taps · None for an axis that is never split.
"""
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

NAMES = ("embed", "mlp", "heads", "layers", "vocab", "in", "out", "conv")


def param(key: jax.Array, init: Callable, shape: tuple[int, ...], axes: tuple[str | None, ...],
          dtype=jnp.float32) -> nnx.Param:
    """A parameter of `shape` drawn by `init(key, shape, dtype)`, with one axis name per dimension."""
    unknown = [name for name in axes if name is not None and name not in NAMES]
    if unknown or len(axes) != len(shape):
        raise ValueError(f"axes {axes} do not name the {len(shape)} dimensions of {shape} with {NAMES} or None")
    with nnx.use_eager_sharding(False):
        return nnx.Param(init(key, shape, dtype), out_sharding=tuple(axes))
