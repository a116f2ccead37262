"""Six sizes, one constant-rate run each, and cooldown branches at an eighth, a quarter and half of its clips."""
from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import dit

FITTED = ("w32d2", "w48d3", "w64d4", "w96d5", "w128d6")
HELD_OUT = "w192d8"


def runs() -> Iterator[ConfigDict]:
    """The fitted sizes, the one that the law must predict, and that one for longer."""
    for size in (*FITTED, HELD_OUT):
        config = dit.get_config(size)
        config.train.clips = 80_000 if size == HELD_OUT else 40_000
        config.train.branches = (0.125, 0.25, 0.5)
        config.train.evaluate = 0.25
        yield config
    yield longer()


def longer() -> ConfigDict:
    """The held-out run gone on with: its first 2,500 updates are the same bits, so its trunk may be taken over."""
    config = dit.get_config(HELD_OUT)
    config.name = f"dit-{HELD_OUT}-long"
    config.train.clips, config.train.evaluate = 120_000, 0.25
    config.optimizer.warmup = 1 / 75  # the same 50 updates
    return config
