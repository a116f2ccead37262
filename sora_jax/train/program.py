"""The compiled update of a run, from its config and a mesh: what is trained is what is measured."""
from collections.abc import Callable
from typing import Any, NamedTuple

from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from sora_jax import build
from sora_jax.train import optimizer, state, step


class Program(NamedTuple):
    """The graph of the model that a run is for, the optimizer, where every leaf of the state lies, and
    `update(state, batch, rate)`."""

    graph: nnx.GraphDef
    tx: Any
    shardings: state.TrainState
    update: Callable


def program(config: ConfigDict, mesh: Mesh) -> Program:
    """Nothing is compiled or allocated until `update` is called or lowered."""
    graph, shapes = state.split(lambda: build.learner(config, config.seed))
    tx = optimizer.of(config.optimizer, shapes)
    shardings = state.shardings(shapes, tx, mesh)
    update = step.compiled(shardings, mesh, graph=graph, objective=build.training_objective(config), tx=tx,
                           ema=build.ema(config), seed=config.seed)
    return Program(build.graph(config)[0], tx, shardings, update)
