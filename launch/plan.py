"""Prints what a run costs before anything is compiled: parameters, FLOPs, tokens, updates, bytes per device, hours.

    python -m launch.plan --config=configs/dit.py:w64d4 --config.train.clips=100000 --flops-per-second=1e11

FLOPs count 2 per multiply-add; the term that grows with the square of the tokens has its own line.
"""
from absl import flags

from launch import door

CONFIG = door.define_config()
RATE = flags.DEFINE_float("flops_per_second", None, "sustained model FLOPs per second of all devices together; "
                          "adds the hours of the run", lower_bound=1.0)


def run() -> None:
    """The door."""
    from sora_jax import build
    print(build.budget(CONFIG.value).table(RATE.value))


if __name__ == "__main__":
    door.main(run)
