"""One size, one budget of 6 TFLOP, one change at a time: positions, conditioning, objectives, and what is inside a
block; the default three times, for the noise of a seed."""
from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import dit

SIZE, BATCH, WARMUP = "w96d4", 16, 1_600  # clips of warm-up, a hundred updates
# Each change with the clips that 6 TFLOP pay for.
BASE = 18_496
POSITIONS = {name: ({"model.positions": name}, BASE) for name in ("none", "learned", "sincos-2d", "sincos", "rotary")}
CONDITIONING = {
    "single": ({"model.modulation": "single"}, 18_624), "joint": ({"model.text": "joint"}, 16_624),
    "prefix": ({"model.text": "prefix"}, 16_752), "pooled": ({"model.text": "none"}, 21_968),
}
OBJECTIVES = {
    "eps": ({"objective.name": "ddpm", "objective.kind": "eps"}, BASE),
    "v": ({"objective.name": "ddpm", "objective.kind": "v"}, BASE), "edm": ({"objective.name": "edm"}, BASE),
}
INSIDE = {
    "no-qk-norm": ({"model.qk_norm": "none"}, BASE), "swiglu": ({"model.mlp": "swiglu"}, BASE),
    "factorised": ({"model.attention": "factorised"}, 20_080), "windowed": ({"model.attention": "windowed"}, 19_744),
}
GROUPS = {"positions": POSITIONS, "conditioning": CONDITIONING, "objective": OBJECTIVES, "inside": INSIDE}


def run(name: str, changes: dict, clips: int, seed: int = 0) -> ConfigDict:
    """The default with `changes`, for so many clips."""
    config = dit.get_config(SIZE)
    config.name, config.seed = name, seed
    config.train.batch, config.train.clips = BATCH, clips
    config.train.evaluate, config.train.log = 0.25, 0.005
    config.optimizer.warmup = WARMUP / clips
    config.eval.matched, config.eval.velocity = True, 64
    config.sampler.steps, config.sampler.guidance = 6, 1.0
    for field, value in changes.items():
        part, inner = field.split(".")
        config[part][inner] = value
    return config


def runs() -> Iterator[ConfigDict]:
    """The default and its repeats, then every change."""
    for seed in range(3):
        yield run(f"default-seed{seed}" if seed else "default", {}, BASE, seed)
    for group, changes in GROUPS.items():
        for name, (fields, clips) in changes.items():
            yield run(f"{group}-{name}", fields, clips)
