"""Measures how true a plan is on this device: what a few updates say a run will take, and what it then took.

    python -m launch.bench_plan --sizes=w96d4,w144d4,w192d4 --updates=1000

Each run is trained on the latents of its config, as launch.train does it, in a folder that is thrown away. Prints the
hours planned and those of the run's own record, the bytes planned and those that the compiled update holds.
"""
import tempfile
from pathlib import Path

from absl import flags

from launch import door

SIZES = flags.DEFINE_list("sizes", ["w96d4", "w144d4", "w192d4"], "rows of configs/ladder.py")
BATCH = flags.DEFINE_integer("batch", 16, "clips in a batch", lower_bound=1)
CALIBRATION = flags.DEFINE_integer("calibration", 20, "updates from which hours are planned", lower_bound=1)
UPDATES = flags.DEFINE_integer("updates", 1000, "updates of the run itself", lower_bound=10)
LATENTS = flags.DEFINE_string("latents", "runs/latents", "folder of latents, of launch.encode --out")


def run() -> None:
    """The door."""
    from configs import dit
    from sora_jax import sources, validation
    from sora_jax.types import ConfigError

    try:
        configs = [dit.get_config(size) for size in SIZES.value]
    except ValueError as error:
        raise ConfigError(f"--sizes: {error}") from None
    for config in configs:
        config.data.path = LATENTS.value
        config.train.batch, config.train.clips = BATCH.value, BATCH.value * UPDATES.value
        config.train.evaluate = 1.0
        validation.validate(config)
        sources.training_source(config)  # what is not there is said before anything compiles
    rows = [compare(config) for config in configs]
    titles = f"{'size':8}{'hours planned':>15}{'measured':>10}{'off by':>9}"
    print(titles + f"{'MiB planned':>14}{'measured':>10}{'off by':>9}")
    print("\n".join(rows))


def compare(config) -> str:
    """One row: the plan of a run beside the run."""
    from sora_jax import measure
    from sora_jax.train import loop

    plan = measure.run(config, CALIBRATION.value)
    with tempfile.TemporaryDirectory() as folder:
        hours = loop.run(config, Path(folder) / config.name)[-1]["train_seconds"] / 3600
    size = [held / 2**20 for held in (plan.planned_bytes, plan.bytes)]
    return (f"{config.model.size:8}{plan.hours:15.4f}{hours:10.4f}{100 * (plan.hours / hours - 1):+8.1f}%"
            f"{size[0]:14.1f}{size[1]:10.1f}{100 * (size[0] / size[1] - 1):+8.1f}%")


if __name__ == "__main__":
    door.main(run)
