"""The largest run of 001, gone on with: more compositions among its clips, and one-frame compositions beside them."""
from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import dit


def runs() -> Iterator[ConfigDict]:
    """One run that begins from the published weights of 001."""
    config = dit.get_config("w160d6")
    config.name = "dit-w160d6-images"
    config.data.path, config.data.images = "runs/mix", "runs/images"
    config.train.start = "experiments/001_first_curve"
    config.train.images = 10
    config.train.clips, config.train.batch = 50_000, 8
    config.optimizer.lr, config.optimizer.cooldown = 2e-3, 0.3
    config.train.evaluate, config.train.log, config.train.save = 0.1, 0.002, 0.05
    config.sampler.guidance = 1.5
    yield config
