"""What a run trains where it trains adapters: which weights, how many, and the model's weights that they make.

Enters: a config, and weights as pure dicts. Leaves: shapes, counts, whole weights. Without `lora.rank` all is trained.
"""
from collections.abc import Callable

import jax
from flax import nnx
from ml_collections import ConfigDict

from sora_jax import build, lora
from sora_jax.train import state


def scale(config: ConfigDict) -> float:
    """What adapters count."""
    return config.lora.alpha / config.lora.rank


def trained(config: ConfigDict) -> dict:
    """The weights that checkpoints hold, as a pure dict of shapes: the model's, or those of its adapters."""
    if not build.lora_rank(config):
        return build.graph(config)[1]
    return nnx.to_pure_dict(state.parted(nnx.eval_shape(lambda: nnx.state(build.learner(config), nnx.Param)))[0])


def whole(config: ConfigDict, params: dict, start: Callable[[], dict]) -> dict:
    """The model's weights from those that are trained; `start` gives the frozen ones, if there are any."""
    return lora.merge(start(), params, scale(config)) if build.lora_rank(config) else params


def count(config: ConfigDict) -> int:
    """Parameters of the adapters."""
    return sum(leaf.size for leaf in jax.tree.leaves(trained(config))) if build.lora_rank(config) else 0
