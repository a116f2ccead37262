"""Trains several seeds and learning rates of one small size together, in one compiled program.

    python -m launch.population --config=configs/dit.py:w32d2 --seeds=0,1,2 --rates=1e-3,3e-3 --workdir=runs/pop

Every seed is trained at every rate. A member leaves in <workdir>/<name>-seed<seed>-lr<rate> what python -m launch.train
would have left there, under the same id, and all records are gathered in <workdir>/runs.jsonl. The command resumes what
the folder holds and skips what is recorded; members that diverge are named at the end and stop none of the others.
Members are shared out over as many devices as divide their number. A small run leaves the second core of a CPU idle,
and most of an accelerator; JAX_NUM_CPU_DEVICES=2 before the command makes a device of each of two cores. On a single
core, members one after the other are mostly quicker. python -m launch.bench_population measures it.
"""
from pathlib import Path

from absl import flags

from launch import door

CONFIG = door.define_config()
SEEDS = flags.DEFINE_list("seeds", [], "seeds, e.g. 0,1,2; default: that of the config")
RATES = flags.DEFINE_list("rates", [], "learning rates, e.g. 1e-3,3e-3; default: that of the config")
WORKDIR = flags.DEFINE_string("workdir", None, "folder of the population, with one folder a member", required=True)


def numbers(name: str, given: list[str], kind: type, default) -> list:
    """The values of a list flag. Raises ConfigError if one is not a number."""
    from sora_jax.types import ConfigError

    try:
        return [kind(value) for value in given] or [default]
    except ValueError:
        raise ConfigError(f"--{name}={','.join(given)}: give numbers with commas between, see --help") from None


def configs(config, seeds: list[int], rates: list[float]) -> list:
    """The members: every seed at every rate, each with a name of its own."""
    made = []
    for seed in seeds:
        for rate in rates:
            one = config.copy_and_resolve_references()
            one.seed, one.optimizer.lr, one.name = seed, rate, f"{config.name}-seed{seed}-lr{rate:g}"
            made.append(one)
    return made


def gather(root: Path, members: list) -> list[dict]:
    """The records of all members, written to runs.jsonl."""
    from sora_jax.scaling import records
    from sora_jax.train import recording

    found = [record for config in members for record in recording.records(root / config.name)]
    records.write(root / "runs.jsonl", found)
    return found


def run() -> None:
    """The door."""
    from sora_jax.train import population

    config, root = CONFIG.value, Path(WORKDIR.value)
    seeds = numbers("seeds", SEEDS.value, int, config.seed)
    rates = numbers("rates", RATES.value, float, config.optimizer.lr)
    members = configs(config, seeds, rates)
    try:
        population.run(members, root)
    except FloatingPointError as error:
        gather(root, members)
        door.fail(f"{error}; give lower --rates")
    for record in gather(root, members):
        print(f"{record['id']}: {record['experiment']} {record['clips']} clips, loss {record['val_loss']:.5f}")
    print(f"records are in {root / 'runs.jsonl'}, weights and curves in a folder for each member")


if __name__ == "__main__":
    door.main(run)
