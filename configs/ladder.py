"""The size table of the diffusion transformer and the rules along it.

Small rows: a ladder for 80 tokens a clip (heads of 16 to 32, learning rate falling with width, not tuned). S/B/L/XL
are the shapes of Peebles & Xie 2023 (arXiv 2212.09748, table 1). Every run of a sweep starts from one of these rows.
"""
from typing import NamedTuple

from ml_collections import ConfigDict


class Size(NamedTuple):
    """One row: shape, and the learning rate used for it."""

    width: int
    depth: int
    heads: int
    lr: float


SIZES = {
    "w32d2": Size(32, 2, 2, 4e-3),
    "w48d3": Size(48, 3, 3, 3.5e-3),
    "w64d4": Size(64, 4, 4, 3e-3),
    "w96d5": Size(96, 5, 4, 2.5e-3),
    "w128d6": Size(128, 6, 4, 2e-3),
    "w192d8": Size(192, 8, 6, 1.5e-3),
    "w256d8": Size(256, 8, 8, 1e-3),
    "S": Size(384, 12, 6, 5e-4),
    "B": Size(768, 12, 12, 3e-4),
    "L": Size(1024, 24, 16, 2e-4),
    "XL": Size(1152, 28, 16, 1e-4),
}


def resize(config: ConfigDict, name: str) -> ConfigDict:
    """`config` with the model of row `name` and its learning rate, in place."""
    if name not in SIZES:
        raise ValueError(f"no size {name!r}; the ladder has {', '.join(SIZES)}")
    size = SIZES[name]
    config.model.size = name
    config.model.width, config.model.depth, config.model.heads = size.width, size.depth, size.heads
    config.optimizer.lr = size.lr
    return config
