"""Seven sizes of one depth at five budgets, 10 to 40 TFLOP by factors of the square root of two, a second and third
seed in the middle, a second of the two largest to 80 TFLOP, and an eighth, larger size at 100 TFLOP with three seeds,
which the law must predict."""
from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import dit

# Clips at which each size has spent 10, 14.1, 20, 28.3 and 40 TFLOP, where that is 900 updates and more, in whole
# batches.
CELLS = {
    "w96d4": (30_816, 43_584, 61_632, 87_216, 123_280),
    "w112d4": (23_600, 33_376, 47_216, 66_800, 94_432),
    "w128d4": (18_640, 26_352, 37_264, 52_736, 74_528),
    "w144d4": (15_072, 21_312, 30_128, 42_640, 60_272),
    "w160d4": (17_568, 24_864, 35_168, 49_712),
    "w176d4": (14_736, 20_848, 29_488, 41_696),
    "w192d4": (17_728, 25_088, 35_456),
}
MIDDLE, SEEDS, AGAIN = "w144d4", (1, 2), (21_312, 30_128)
FURTHER = {  # with a second seed to 28.3, 40, 56.6 and 80 TFLOP
    "w176d4": (29_488, 41_696, 58_960, 83_392),
    "w192d4": (25_088, 35_456, 50_144, 70_912),
}
HELD_OUT, ENDS = "w208d4", (21_584, 30_512, 76_272)  # 28.3, 40 and 100 TFLOP
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
    """The grid, other seeds of its middle and its two largest sizes, and last the run that is held out, three times."""
    for size, ends in CELLS.items():
        yield run(size, ends)
    for seed in SEEDS:
        yield run(MIDDLE, AGAIN, seed)
    for size, ends in FURTHER.items():
        yield run(size, ends, 1)
    for seed in SEEDS:
        yield run(HELD_OUT, ENDS[1:], seed)
    yield run(HELD_OUT, ENDS)
