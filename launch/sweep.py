"""Runs an experiment: every config of its `runs()`, by any number of workers, skipping what is recorded.

    python -m launch.sweep --experiment=001_first_curve --dry
    python -m launch.sweep --experiment=001_first_curve --workers=2
    python -m launch.sweep --experiment=001_first_curve --print      (one command a line, for a scheduler of yours)
    python -m launch.sweep --experiment=001_first_curve --slurm      (writes and submits a job array)

Workers on any machines that share the folder claim runs one by one and resume what a dead one left; a run that raises
is tried again up to three times. Watch them with python -m launch.board. Records are gathered in <workdir>/runs.jsonl;
`--publish` copies them and the last run's weights to the experiment.
"""
import signal
import subprocess
import sys
from pathlib import Path

from absl import flags

from launch import door, studies

EXPERIMENT = flags.DEFINE_string("experiment", None, "folder name under experiments/, or its number", required=True)
WORKDIR = flags.DEFINE_string("workdir", "", "folder of the runs; default runs/<experiment>")
DRY = flags.DEFINE_boolean("dry", False, "print the table of runs and what they cost; start nothing")
ONLY = flags.DEFINE_string("only", "", "only the run of this name, e.g. dit-w64d4")
WORKERS = flags.DEFINE_integer("workers", 1, "processes on this machine, each with one run at a time", lower_bound=1)
WORKER = flags.DEFINE_integer("worker", -1, "be one of the workers: the number of the run to look at first")
PRINT = flags.DEFINE_boolean("print", False, "print the command of each run that is not recorded, one a line")
SLURM = flags.DEFINE_boolean("slurm", False, "write a job array under the folder of the runs and submit it with sbatch")
OPTIONS = flags.DEFINE_string("sbatch", "--cpus-per-task=2 --mem=8G --time=24:00:00", "options of the job array")
CLUSTER = flags.DEFINE_enum("cluster", "", ["", "jobset", "xpk"], "print what starts the sweep on a TPU cluster")
PUBLISH = flags.DEFINE_boolean("publish", False, "copy records and the last run's weights into the experiment's folder")
FALLEN = 20  # workers that may die of something else than their runs before the sweep asks for help


def table(configs: list) -> str:
    """One line per run: name, parameters, clips, FLOPs, id."""
    from sora_jax import costs
    from sora_jax.scaling import identity

    rows = [f"{'run':16}{'n_core':>12}{'n_total':>12}{'clips':>10}{'FLOPs':>11}  id"]
    for config in configs:
        budget, name = costs.budget(config), identity.run_id(config.to_dict())
        counts = f"{budget.n_core:12,}{budget.n_total:12,}{budget.clips:10,}"
        rows.append(f"{config.name:16}{counts}{budget.flops:11.3g}  {name}")
    return "\n".join(rows)


def gather(root: Path, configs: list) -> list[dict]:
    """Every record that the runs have written so far."""
    from sora_jax.scaling import records

    paths = [root / config.name / "records.jsonl" for config in configs]
    return [record for path in paths if path.exists() for record in records.read(path)]


def publish(root: Path, folder: Path, configs: list) -> None:
    """Records of all runs, and the weights of the last one in half precision, into the experiment's folder."""
    from sora_jax import weights
    from sora_jax.scaling import records
    from sora_jax.types import InputError

    for config in configs:
        if not (root / config.name / "weights.safetensors").exists():
            raise InputError(f"{root / config.name} is not finished; run the sweep to its end before --publish")
    params, meta = weights.load_weights(root / configs[-1].name / "weights.safetensors")
    records.write(folder / "runs.jsonl", gather(root, configs))
    weights.save_weights(folder / "weights.safetensors", params, meta, storage="float16")
    print(f"{folder}: runs.jsonl and weights.safetensors")


def tasks(configs: list, root: Path) -> list:
    """The runs as what workers share out."""
    import functools

    from sora_jax.sweeping import Task
    from sora_jax.train import loop

    def train(config, fence):
        for record in loop.run(config, root / config.name, fence):
            print(f"{record['id']}: {record['model']} {record['clips']} clips, loss {record['val_loss']:.5f}")

    return [Task(config.name, root / config.name, functools.partial(loop.finished, config, root / config.name),
                 functools.partial(train, config)) for config in configs]


def crew(arguments: list[str], workers: int) -> None:
    """Worker processes until all have ended well; one that dies is replaced."""
    from sora_jax.types import InputError

    def start(number: int) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-m", "launch.sweep", *arguments, f"--worker={number}"])

    alive, fallen = {number: start(number) for number in range(workers)}, 0
    try:
        while alive:
            for number, process in list(alive.items()):
                try:
                    code = process.wait(timeout=0.2)
                except subprocess.TimeoutExpired:
                    continue
                del alive[number]
                if code:
                    fallen += 1
                    print(f"worker {number} ended with {code}", file=sys.stderr)
                    if fallen > FALLEN:
                        raise InputError(f"{fallen} workers died; see what kills them (memory?), then run this again")
                    alive[number] = start(number + fallen)  # not at once at the run that killed it
    finally:
        for process in alive.values():
            process.terminate()
        for process in alive.values():
            process.wait()


def run() -> None:
    """The door."""
    from sora_jax.types import InputError

    name = studies.find(EXPERIMENT.value)
    root = Path(WORKDIR.value or f"runs/{name}")
    configs = studies.configs(name)
    chosen = [config for config in configs if ONLY.value in ("", config.name)]
    if not chosen:
        raise InputError(f"--only={ONLY.value}: no such run; there are {', '.join(c.name for c in configs)}")
    if DRY.value:
        print(table(configs))
    elif PUBLISH.value:
        publish(root, studies.EXPERIMENTS / name, configs)
    elif PRINT.value or SLURM.value or CLUSTER.value:
        hand_over(name, root, chosen)
    else:
        train(name, root, configs, chosen)


def hand_over(name: str, root: Path, chosen: list) -> None:
    """What another system is to run, printed or submitted."""
    from launch import cluster
    from sora_jax.train import loop

    rest = [config.name for config in chosen if not loop.finished(config, root / config.name)]
    python = "python" if CLUSTER.value else sys.executable  # an image has its own
    shared = Path("/runs") / name if CLUSTER.value else root  # where a JobSet mounts the volume
    commands = [cluster.command(name, shared, one, python) for one in rest]
    if PRINT.value:
        print("\n".join(commands))
    elif SLURM.value:
        print(cluster.slurm(name, root, commands, OPTIONS.value))
    else:
        print(cluster.MAKERS[CLUSTER.value](name, commands))


def train(name: str, root: Path, configs: list, chosen: list) -> None:
    """All chosen runs, here, to their end."""
    from sora_jax import sweeping, validation
    from sora_jax.scaling import records
    from sora_jax.types import InputError

    for config in chosen:
        validation.validate(config)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if WORKER.value >= 0 or WORKERS.value == 1:
        ends = sweeping.work(tasks(chosen, root), first=max(WORKER.value, 0))
    else:
        crew([f"--experiment={name}", f"--workdir={root}", f"--only={ONLY.value}"], WORKERS.value)
        ends = sweeping.states(tasks(chosen, root))
    if WORKER.value < 0:
        records.write(root / "runs.jsonl", gather(root, configs))
        if lost := [f"{end.task.name}: {end.status.error}" for end in ends if end.status.state == "failed"]:
            raise InputError(f"{len(lost)} of {len(ends)} runs failed for good: {'; '.join(lost[:3])}. Mend that, "
                             f"remove the folder {sweeping.lease.FOLDER}/ of the run, and start again")
        print(f"records are in {root / 'runs.jsonl'}; draw them with python -m launch.figure --experiment {root}")


if __name__ == "__main__":
    door.main(run)
