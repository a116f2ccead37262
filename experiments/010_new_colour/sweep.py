"""Adapters of rank 8 beside the frozen weights of 004, on clips half of whose objects have a colour it never saw."""
from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import dit

OLD = ("red", "green", "blue", "yellow", "orange", "purple", "cyan", "pink")

READING = ("cross_q", "cross_kv", "cross_out", "text/*", "caption", "embed", "head")
MIXING = ("qkv", "out", "cross_kv", "embed", "head")


def run(name: str, clips: int, lr: float, targets: tuple[str, ...] = READING, new: str = "salmon",
        path: str = "runs/new_colour") -> ConfigDict:
    """Adapters of some layers, trained on so many clips of a folder: those through which captions and colours enter and
    leave, or those that mix the tokens of a clip."""
    config = dit.get_config("w160d6")
    config.name = name
    config.data.path, config.data.colours = path, (new,) * 8 + OLD
    config.objective.mean = 0.9
    config.train.start = "experiments/004_every_family"
    config.lora.rank = 8
    config.lora.targets = targets
    config.train.clips, config.train.batch = clips, 8
    config.optimizer.lr, config.optimizer.cooldown = lr, 0.4
    config.train.evaluate, config.train.log, config.train.save = 0.1, 0.01, 0.1
    config.eval.clips = 128
    config.sampler.guidance = 2.5
    return config


def runs() -> Iterator[ConfigDict]:
    """Salmon: a short run, one of five times as many updates at half the rate, and one as long with adapters on
    attention. Black: the long run again."""
    yield run("dit-w160d6-salmon", 4_000, 4e-3)
    yield run("dit-w160d6-salmon-long", 20_000, 2e-3)
    yield run("dit-w160d6-salmon-mixing", 20_000, 2e-3, MIXING)
    yield run("dit-w160d6-black-long", 20_000, 2e-3, new="black", path="runs/new_black")
