"""Six sizes, one constant-rate run each, and cooldown branches at an eighth, a quarter and half of its clips."""
from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import dit

FITTED = ("w32d2", "w48d3", "w64d4", "w96d5", "w128d6")
HELD_OUT = "w192d8"


def runs() -> Iterator[ConfigDict]:
    """The fitted sizes first, then the one that the law must predict."""
    for size in (*FITTED, HELD_OUT):
        config = dit.get_config(size)
        config.train.clips = 80_000 if size == HELD_OUT else 40_000
        config.train.branches = (0.125, 0.25, 0.5)
        config.train.evaluate = 0.25
        yield config
