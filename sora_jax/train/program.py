"""The compiled update of a run, from its config and a mesh: what is trained is what is measured."""
from collections.abc import Callable
from typing import Any, NamedTuple

from flax import nnx
from jax.sharding import Mesh
from jaxtyping import PyTree
from ml_collections import ConfigDict

from sora_jax import build
from sora_jax import mesh as meshes
from sora_jax.train import optimizer, state, step


class Program(NamedTuple):
    """The graph of the model that a run is for, the optimizer, where every leaf of the state lies, and
    `update(state, batch, rate)`; where weights are `frozen`, where they lie, and they are the update's last argument.
    """

    graph: nnx.GraphDef
    tx: Any
    shardings: state.TrainState
    update: Callable
    frozen: PyTree


def program(config: ConfigDict, mesh: Mesh) -> Program:
    """Nothing is compiled or allocated until `update` is called or lowered."""
    graph, shapes = state.split(lambda: build.learner(config, config.seed))
    trained, rest = state.parted(shapes)
    tx, frozen = optimizer.of(config.optimizer, trained), meshes.shardings(rest, mesh)
    shardings = state.shardings(shapes, tx, mesh)
    update = step.compiled(shardings, mesh, frozen, graph=graph, objective=build.training_objective(config), tx=tx,
                           ema=build.ema(config), seed=config.seed)
    return Program(build.graph(config)[0], tx, shardings, update, frozen)
