"""Seven sizes at five budgets, 2.5 to 40 TFLOP by factors of two, a second and third seed in the middle, and a larger
size at up to two and a half times the FLOPs of any of them, which the law must predict."""
from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import dit

# Clips at which each size has spent 2.5, 5, 10, 20, 40 TFLOP, where that is 300 updates and more, in whole batches.
CELLS = {
    "w80d3": (13_424, 26_832, 53_664, 107_328),
    "w96d3": (9_984, 19_952, 39_920, 79_824),
    "w96d4": (7_712, 15_408, 30_816, 61_632),
    "w112d4": (5_904, 11_808, 23_600, 47_216),
    "w112d5": (9_584, 19_152, 38_304, 76_624),
    "w128d5": (7_536, 15_088, 30_160, 60_320),
    "w144d6": (10_208, 20_416, 40_848),
}
MIDDLE, SEEDS, AGAIN = "w112d4", (1, 2), (11_808, 23_600)
HELD_OUT, ENDS = "w160d6", (16_800, 33_600, 84_016)
WARMUP = 1_600  # clips, a hundred updates


def run(size: str, ends: tuple[int, ...], seed: int = 0) -> ConfigDict:
    """A trunk to the last of `ends`, with a cooldown branch to each of the others."""
    config = dit.get_config(size)
    config.name += f"-seed{seed}" if seed else ""
    config.seed = seed
    config.train.batch, config.train.clips = 16, ends[-1]
    config.train.branches = tuple(end / ends[-1] for end in ends[:-1])
    config.train.evaluate, config.train.log = 0.25, 0.002
    config.optimizer.warmup = WARMUP / ends[-1]
    config.eval.velocity, config.sampler.steps, config.sampler.guidance = 64, 6, 1.0
    return config


def runs() -> Iterator[ConfigDict]:
    """The grid, the seeds of its middle, and last the run that is held out."""
    for size, ends in CELLS.items():
        yield run(size, ends)
    for seed in SEEDS:
        yield run(MIDDLE, AGAIN, seed)
    yield run(HELD_OUT, ENDS)
