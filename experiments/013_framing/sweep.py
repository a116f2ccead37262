"""004 gone on with in a world twice as wide as high: on square crops of its middle, and on all of it, at equal FLOPs.
"""
from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import dit

WORLD = 2.0  # width of the world in heights


def run(name: str, path: str, width: int, clips: int) -> ConfigDict:
    """w160d6 from the weights of 004, on clips of 64 × `width` pixels."""
    config = dit.get_config("w160d6")
    config.name = name
    config.data.path, config.data.width, config.data.aspect = path, width, WORLD
    config.data.families, config.data.weights = ("uniform", "composition"), (1.0, 1.0)
    config.objective.mean = 0.9
    config.train.start = "experiments/004_every_family"
    config.train.clips, config.train.batch = clips, 8
    config.optimizer.lr, config.optimizer.cooldown = 1e-3, 0.5
    config.train.evaluate, config.train.log, config.train.save = 0.25, 0.01, 0.1
    config.eval.clips = 128
    config.sampler.guidance = 2.5
    return config


def runs() -> Iterator[ConfigDict]:
    """Square crops have half the tokens, so about twice the clips."""
    yield run("dit-w160d6-square", "runs/square", 64, 8_000)
    yield run("dit-w160d6-native", "runs/wide", 128, 3_840)
