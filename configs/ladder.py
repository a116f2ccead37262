"""The size table of the diffusion transformer and the rules along it.

Small rows: a ladder for 80 tokens a clip, trained with Muon at one rate for every width, chosen at width 96; w80d2,
w160d2 and w240d2 have heads of one width, for experiments on width alone. S/B/L/XL are the shapes of Peebles & Xie 2023
(arXiv 2212.09748, table 1), here with up to 0.75 B parameters; 3B has 3.0 B. Their rates are not tuned. Every run of a
sweep starts from one of these rows.
"""
from typing import NamedTuple

from ml_collections import ConfigDict


class Size(NamedTuple):
    """One row: shape, the learning rate used for it, and Muon's rate as a multiple of that (0: AdamW everywhere)."""

    width: int
    depth: int
    heads: int
    lr: float = 3e-3
    muon: float = 8.0


SIZES = {
    "w32d2": Size(32, 2, 2),
    "w48d3": Size(48, 3, 3),
    "w80d2": Size(80, 2, 4),
    "w64d4": Size(64, 4, 4),
    "w80d3": Size(80, 3, 4),
    "w64d6": Size(64, 6, 4),
    "w80d4": Size(80, 4, 4),
    "w96d3": Size(96, 3, 4),
    "w96d4": Size(96, 4, 4),
    "w80d6": Size(80, 6, 4),
    "w96d5": Size(96, 5, 4),
    "w160d2": Size(160, 2, 8),
    "w112d4": Size(112, 4, 4),
    "w96d6": Size(96, 6, 4),
    "w112d5": Size(112, 5, 4),
    "w128d4": Size(128, 4, 4),
    "w112d6": Size(112, 6, 4),
    "w128d5": Size(128, 5, 4),
    "w144d4": Size(144, 4, 4),
    "w128d6": Size(128, 6, 4),
    "w160d4": Size(160, 4, 4),
    "w240d2": Size(240, 2, 12),
    "w176d4": Size(176, 4, 4),
    "w144d6": Size(144, 6, 4),
    "w192d4": Size(192, 4, 4),
    "w160d6": Size(160, 6, 4),
    "w208d4": Size(208, 4, 4),
    "w192d8": Size(192, 8, 4),
    "w256d8": Size(256, 8, 8),
    "S": Size(384, 12, 6, 5e-4, 0.0),
    "B": Size(768, 12, 12, 3e-4, 0.0),
    "L": Size(1024, 24, 16, 2e-4, 0.0),
    "XL": Size(1152, 28, 16, 1e-4, 0.0),
    "3B": Size(2304, 28, 24, 5e-5, 0.0),
}


def resize(config: ConfigDict, name: str) -> ConfigDict:
    """`config` with the model of row `name` and its learning rates, in place."""
    if name not in SIZES:
        raise ValueError(f"no size {name!r}; the ladder has {', '.join(SIZES)}")
    size = SIZES[name]
    config.model.size = name
    config.model.width, config.model.depth, config.model.heads = size.width, size.depth, size.heads
    config.optimizer.lr, config.optimizer.muon = size.lr, size.muon
    return config
