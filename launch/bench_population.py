"""Measures what training a population in one program gains over its members one after the other, on this machine.

    JAX_NUM_CPU_DEVICES=2 python -m launch.bench_population --sizes=w32d2,w64d4 --batches=8,16 --members=2,4

Prints seconds an update of one run and, for each number of members, their updates a second together as a multiple of
that of one run: below 1 a population is slower than its members one after the other. Both programs take turns, and the
medians are compared. Random data; nothing is written.
"""
import time

from absl import flags

from launch import door

SIZES = flags.DEFINE_list("sizes", ["w32d2", "w64d4"], "rows of configs/ladder.py")
BATCHES = flags.DEFINE_list("batches", ["8", "16"], "clips in a batch of one member")
MEMBERS = flags.DEFINE_list("members", ["1", "2", "4", "8"], "sizes of the population")
ROUNDS = flags.DEFINE_integer("rounds", 7, "turns of each program", lower_bound=1)
UPDATES = flags.DEFINE_integer("updates", 4, "updates in a turn", lower_bound=1)
CPU = flags.DEFINE_boolean("cpu", False, "count processor seconds, not those on the wall: where other work runs too")


def run() -> None:
    """The door."""
    from configs import dit
    from sora_jax import measure
    from sora_jax.types import ConfigError

    try:
        members = [int(text) for text in MEMBERS.value]
        rows = [(dit.get_config(size), int(batch)) for size in SIZES.value for batch in BATCHES.value]
    except ValueError as error:
        raise ConfigError(f"--sizes, --batches or --members: {error}") from None
    clock = time.process_time if CPU.value else time.perf_counter
    print(f"{'size':8}{'batch':>6}{'s alone':>10}" + "".join(f"{f'x{count}':>8}" for count in members), flush=True)
    for config, batch in rows:
        config.train.batch = batch
        found = list(measure.gains(config, members, ROUNDS.value, UPDATES.value, clock))
        print(f"{config.model.size:8}{batch:6}{found[0].alone:10.4f}"
              + "".join(f"{gain.ratio:8.2f}" for gain in found), flush=True)


if __name__ == "__main__":
    door.main(run)
