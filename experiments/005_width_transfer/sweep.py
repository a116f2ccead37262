"""Three widths of one depth and one head width, learning rates by factors of two, with and without width rules."""
from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import dit

BASE, WIDER = "w80d2", ("w160d2", "w240d2")
RATES = tuple(2.0 ** power for power in range(-10, -4))
CLIPS, BATCH = 3_200, 16


def run(size: str, rule: str, rate: float) -> ConfigDict:
    """One annealed run with AdamW everywhere."""
    config = dit.get_config(size)
    config.name = f"{size}-{rule}-{rate:.2g}"
    config.train.clips, config.train.batch = CLIPS, BATCH
    config.train.evaluate, config.train.log, config.train.save = 1.0, 0.02, 0.5
    config.optimizer.lr, config.optimizer.muon, config.optimizer.warmup = rate, 0.0, 0.1
    config.optimizer.widths = rule
    if rule == "mup":
        config.optimizer.base_width = dit.get_config(BASE).model.width
    return config


def runs() -> Iterator[ConfigDict]:
    """The base width, where the rules change nothing, then each wider one without and with them."""
    for rate in RATES:
        yield run(BASE, "none", rate)
    for size in WIDER:
        for rule in ("none", "mup"):
            for rate in RATES:
                yield run(size, rule, rate)
