"""The run of 003, gone on with: every family among its clips, half of its one-frame compositions of three objects; and
the same once more, from where that ended."""
from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import dit


def run(name: str, start: str, clips: int, cooldown: float) -> ConfigDict:
    """w160d6 from the weights at `start`."""
    config = dit.get_config("w160d6")
    config.name = name
    config.data.path, config.data.images = "runs/mix", "runs/images"
    config.objective.mean = 0.9
    config.train.start = start
    config.train.images = 10
    config.train.clips, config.train.batch = clips, 8
    config.optimizer.lr, config.optimizer.cooldown = 2e-3, cooldown
    config.train.evaluate, config.train.log, config.train.save = 0.1, 0.002, 0.05
    config.sampler.guidance = 1.5
    return config


def runs() -> Iterator[ConfigDict]:
    """The second begins from what the first left; it is tried again until that is there."""
    first = run("dit-w160d6-families", "experiments/003_compositions", 48_000, 0.4)
    yield first
    yield run("dit-w160d6-again", f"runs/004_every_family/{first.name}", 28_800, 0.5)
