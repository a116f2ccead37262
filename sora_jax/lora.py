"""Adapters of low rank on the dense layers of a model: which layers, how they are attached, merged and taken out again.

Enters: a model, or its weights as a pure dict with an "adapter" of factors `a` and `b` beside each adapted "kernel".
Leaves: the model with adapters; weights without them, W + scale · a b in the place of W. Hu et al. 2021 (arXiv
2106.09685), section 4.1: scale is alpha / rank, so that a rate serves all ranks.
"""
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from flax import nnx, traverse_util
from jaxtyping import Array, Float

from sora_jax.nn.linear import Linear
from sora_jax.nn.low_rank import LowRank
from sora_jax.types import ConfigError

BLOCKS = "blocks/"  # layers of the blocks are named without it
FACTORS = ("a", "b")


def layers(model: nnx.Module) -> dict[str, Linear]:
    """The dense layers of a model by name, "qkv" or "text/layers/up"; one of a stack stands for all of them."""
    found = {"/".join(map(str, path)): layer for path, layer in nnx.iter_modules(model) if isinstance(layer, Linear)}
    return {name.removeprefix(BLOCKS): found[name] for name in sorted(found)}


def targeted(known: Mapping[str, Linear], targets: Sequence[str], rank: int) -> list[str]:
    """The names that `targets` choose, each a name or a pattern of names ("text/layers/*"). Raises ConfigError for one
    that chooses nothing, with those there are, and for a rank that is no lower than a layer's own."""
    for target in targets or ("",):
        if not any(fnmatchcase(name, target) for name in known):
            raise ConfigError(f"lora.targets has {target!r}, which is no layer; there are {', '.join(known)}")
    chosen = [name for name in known if any(fnmatchcase(name, target) for target in targets)]
    for name in chosen:
        most = min(known[name].kernel[...].shape[-2:])
        if not 0 < rank <= most:
            raise ConfigError(f"lora.rank={rank} for the layer {name!r}, whose kernel has rank {most}; give 1 to {most}"
                              " or leave it out of lora.targets")
    return chosen


def attach(model: nnx.Module, targets: Sequence[str], rank: int, alpha: float, rngs: nnx.Rngs) -> nnx.Module:
    """`model` with fresh adapters, in place: it computes what it did. Raises ConfigError as `targeted` does."""
    if not alpha > 0:
        raise ConfigError(f"lora.alpha={alpha} must be positive; the adapters count alpha / rank times")
    known = layers(model)
    for name in targeted(known, targets, rank):
        kernel = known[name].kernel
        axes = kernel.get_metadata().get("out_sharding") or (None,) * kernel[...].ndim
        known[name].adapter = LowRank(kernel[...].shape, tuple(axes), rank, alpha / rank, rngs=rngs)
    return model


def change(adapter: Mapping[str, Float[Array | np.ndarray, "..."]],
           scale: float) -> Float[Array | np.ndarray, "*l i o"]:
    """What an adapter adds to its kernel."""
    return scale * (adapter["a"] @ adapter["b"])


def merge(params: Mapping[str, Any], adapters: Mapping[str, Any], scale: float) -> dict[str, Any]:
    """Weights without adapters that compute what `params` with `adapters` do; scale -s takes out what s put in. Raises
    ConfigError for an adapter of a layer that is not there, or of another shape."""
    flat = traverse_util.flatten_dict(nnx.restore_int_paths(params))
    for path, adapter in by_layer(adapters).items():
        kernel, added = flat.get((*path, "kernel")), (*adapter["a"].shape[:-1], adapter["b"].shape[-1])
        if kernel is None or kernel.shape != added:
            name, there = "/".join(map(str, path)), "none" if kernel is None else kernel.shape
            raise ConfigError(f"the adapter of {name} changes a kernel of {added}; the model has {there} there")
        flat[(*path, "kernel")] = kernel + change(adapter, scale)
    return traverse_util.unflatten_dict(flat)


def by_layer(adapters: Mapping[str, Any]) -> dict[tuple[str, ...], dict[str, Any]]:
    """Factors `a` and `b` of each layer, by its path; the tree may hold them under "adapter"."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for path, leaf in traverse_util.flatten_dict(dict(adapters)).items():
        found.setdefault(path[:-2] if path[-2] == "adapter" else path[:-1], {})[path[-1]] = leaf
    for path, adapter in found.items():
        if set(adapter) != {*FACTORS}:
            raise ConfigError(f"the adapter of {'/'.join(map(str, path))} holds {', '.join(sorted(adapter))}, "
                              "not a and b")
    return found
