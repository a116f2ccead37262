"""Devices as a mesh, and one table from axis names to mesh axes.

Enters: four sizes, and trees whose weights name their axes (`nn.axes`). Leaves: a `Mesh` and `NamedSharding`s.
Axes: "data" replicates the weights, "fsdp" splits weights and clips, "tensor" splits heads and hidden units,
"sequence" is reserved for models that split tokens themselves. One device is a mesh of ones.
"""
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx, traverse_util
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from sora_jax.types import ConfigError

AXES = ("data", "fsdp", "sequence", "tensor")
RULES: dict[str, str | None] = {
    "embed": "fsdp", "mlp": "tensor", "heads": "tensor", "vocab": "tensor", "in": "fsdp", "out": "fsdp",
    "layers": None, "conv": None,
}


def make(data: int = -1, fsdp: int = 1, tensor: int = 1, sequence: int = 1, devices: Sequence | None = None) -> Mesh:
    """A mesh over `devices` (default: all). At most one size may be -1: whatever is left. Raises ConfigError."""
    devices = list(jax.devices() if devices is None else devices)
    sizes = {"data": data, "fsdp": fsdp, "sequence": sequence, "tensor": tensor}
    free = [name for name, size in sizes.items() if size == -1]
    for name, size in sizes.items():
        if size < 1 and size != -1:
            raise ConfigError(f"mesh.{name}={size} is not a size; give a positive number, or -1 for what is left")
    if len(free) > 1:
        raise ConfigError(f"mesh.{free[0]} and mesh.{free[1]} are both -1; only one axis can take what is left")
    fixed = math.prod(size for size in sizes.values() if size != -1)
    wanted = ", ".join(f"mesh.{name}={size}" for name, size in sizes.items() if size > 1)
    if fixed > len(devices):
        raise ConfigError(f"{wanted} needs {fixed} devices, {len(devices)} found: make an axis smaller, or -1")
    if free:
        if len(devices) % fixed:
            raise ConfigError(f"{wanted} does not divide the {len(devices)} devices found, so mesh.{free[0]}=-1 "
                              f"has no size; make {fixed} a divisor of {len(devices)}")
        sizes[free[0]] = len(devices) // fixed
    count = math.prod(sizes.values())
    if count < len(devices) and jax.process_count() > 1:
        raise ConfigError(f"the mesh uses {count} of {len(devices)} devices; hosts must use all of them: mesh.data=-1")
    return jax.make_mesh(tuple(sizes.values()), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices[:count])


def spec(shape: Sequence[int], names: Sequence[str | None], mesh: Mesh) -> PartitionSpec:
    """Where the axes `names` of a weight of `shape` go. A mesh axis serves once; one that does not divide is left."""
    if len(names) != len(shape):
        raise ConfigError(f"a weight of shape {tuple(shape)} names {len(names)} axes {tuple(names)}; name every axis "
                          "(layer stacks need the partition name 'layers')")
    used: list[str | None] = []
    for size, name in zip(shape, names, strict=True):
        if name is not None and name not in RULES:
            raise ConfigError(f"no mesh rule for the axis name {name!r}; mesh.RULES has {', '.join(RULES)}")
        axis = RULES[name] if name is not None else None
        fits = axis is not None and axis not in used and mesh.shape[axis] > 1 and size % mesh.shape[axis] == 0
        used.append(axis if fits else None)
    return PartitionSpec(*used)


def shardings(abstract_state: nnx.State, mesh: Mesh) -> dict[Any, Any]:
    """A pure dict of `NamedSharding`, one per weight; a weight without axis names is replicated."""
    flat = {}
    for path, leaf in nnx.to_flat_state(abstract_state):
        names = leaf.get_metadata().get("out_sharding")
        flat[path] = NamedSharding(mesh, spec(leaf.shape, names, mesh) if names else PartitionSpec())
    return traverse_util.unflatten_dict(flat)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Clips (axis 0) are split over "data" and "fsdp"; every other axis is whole."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def fetch(tree: Any) -> Any:
    """The same tree as numpy arrays, whole, on every host. Collective when an array spans hosts."""
    def one(x):
        if not isinstance(x, jax.Array) or x.is_fully_addressable:
            return np.asarray(x)
        if x.is_fully_replicated:
            return np.asarray(x.addressable_data(0))
        return multihost_utils.process_allgather(x, tiled=True)

    return jax.tree.map(one, tree)
