"""The run of 003, gone on with: every family among its clips, half of its one-frame compositions of three objects."""
from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import dit


def runs() -> Iterator[ConfigDict]:
    """One run that begins from the published weights of 003."""
    config = dit.get_config("w160d6")
    config.name = "dit-w160d6-families"
    config.data.path, config.data.images = "runs/mix", "runs/images"
    config.objective.mean = 0.9
    config.train.start = "experiments/003_compositions"
    config.train.images = 10
    config.train.clips, config.train.batch = 48_000, 8
    config.optimizer.lr, config.optimizer.cooldown = 2e-3, 0.4
    config.train.evaluate, config.train.log, config.train.save = 0.1, 0.002, 0.05
    config.sampler.guidance = 1.5
    yield config
