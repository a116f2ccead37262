"""The training state: a tree of pure dicts, and how it is laid out, described and first drawn.

Enters: a function that builds a model, an optax transformation, a mesh. Leaves: `TrainState` as arrays, as shapes, or
as shardings. Weights never exist on one device first: they are drawn inside one `jit` with output shardings.
"""
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx, traverse_util
from jax.sharding import Mesh
from jaxtyping import Array, Int, PyTree

from sora_jax import mesh as meshes

CRITIC = "critic"  # the part of the weights that is trained beside the model, and thrown away
ADAPTER = "adapter"  # the parts of the weights that are trained alone, if there are any: all others are frozen


class TrainState(NamedTuple):
    """All that the future of a run depends on, the config apart. `params` and `ema` are pure dicts, the latter of the
    model's weights only. Where weights are frozen, `params` are those that are not."""

    step: Int[Array, ""]
    params: PyTree
    ema: PyTree
    opt: PyTree


def kept(params: Mapping[str, Any]) -> dict[str, Any]:
    """The weights that a run is for: all but those of a critic."""
    return {name: tree for name, tree in params.items() if name != CRITIC}


def parted(params: nnx.State) -> tuple[nnx.State, nnx.State]:
    """(trained, frozen): adapters and all else, or where there are none all and nothing."""
    flat = nnx.to_flat_state(params)
    alone = any(ADAPTER in path for path, _ in flat)
    trained, frozen = ([(path, leaf) for path, leaf in flat if (ADAPTER in path or not alone) is wanted]
                       for wanted in (True, False))
    return nnx.from_flat_state(trained), nnx.from_flat_state(frozen)


def joined(trained: Mapping[str, Any], frozen: Mapping[str, Any]) -> dict[str, Any]:
    """The weights of the model from the two pure dicts of them."""
    if not frozen:
        return dict(trained)
    return traverse_util.unflatten_dict(
        traverse_util.flatten_dict(dict(trained)) | traverse_util.flatten_dict(dict(frozen)))


def split(make: Callable[[], nnx.Module]) -> tuple[nnx.GraphDef, nnx.State]:
    """The graph of the model that `make` builds, and its weights as shapes with axis names. Allocates nothing."""
    with nnx.use_eager_sharding(False):
        graph, params, rest = nnx.split(nnx.eval_shape(make), nnx.Param, ...)
    if jax.tree.leaves(rest):
        raise TypeError(f"a model holds nnx.Param and nothing else; found {[p for p, _ in nnx.to_flat_state(rest)]}")
    return graph, params


def shardings(params: nnx.State, tx: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """The `NamedSharding` of every leaf of the state; moments and EMA lie where their weights lie."""
    params = parted(params)[0]
    rest, weights = meshes.replicated(mesh), meshes.shardings(params, mesh)
    return TrainState(rest, weights, kept(weights), moments(params, tx, weights, rest))


def moments(params: nnx.State, tx: optax.GradientTransformation, weights: PyTree, rest: Any) -> PyTree:
    """The tree of the optimizer's state with, for a moment, what the pure dict `weights` says of its weight, and `rest`
    for counts and constants.

    A moment is known by the path of its weight, which ends its own: an optimizer may keep one for some weights only."""
    owners = dict(jax.tree_util.tree_leaves_with_path(weights))

    def place(path, _):
        return next((owners[path[i:]] for i in range(len(path)) if path[i:] in owners), rest)

    return jax.tree_util.tree_map_with_path(place, jax.eval_shape(tx.init, nnx.to_pure_dict(params)))


def draw(make: Callable[[], nnx.Module], tx: optax.GradientTransformation) -> TrainState:
    """Step 0. The EMA starts as a copy of the model's weights."""
    with nnx.use_eager_sharding(False):
        params = nnx.to_pure_dict(parted(nnx.state(make(), nnx.Param))[0])
    return TrainState(jnp.int32(0), params, jax.tree.map(jnp.copy, kept(params)), tx.init(params))


def initial(make: Callable[[], nnx.Module], tx: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """Step 0 on the mesh."""
    return jax.jit(lambda: draw(make, tx), out_shardings=shardings(split(make)[1], tx, mesh))()


def abstract(make: Callable[[], nnx.Module], tx: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """The state as `ShapeDtypeStruct`s with shardings: what a checkpoint is restored into."""
    return jax.tree.map(lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
                        jax.eval_shape(lambda: draw(make, tx)), shardings(split(make)[1], tx, mesh))
