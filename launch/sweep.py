"""Runs an experiment: every config of its `runs()`, skipping what is recorded, resuming what was cut short.

    python -m launch.sweep --experiment=001_first_curve --dry
    python -m launch.sweep --experiment=001_first_curve --workdir=runs/001_first_curve

Records are gathered in <workdir>/runs.jsonl; `--publish` copies them and the largest run's weights to the experiment.
"""
import importlib
from pathlib import Path

from absl import flags

from launch import door

EXPERIMENT = flags.DEFINE_string("experiment", None, "folder name under experiments/, or its number", required=True)
WORKDIR = flags.DEFINE_string("workdir", "", "folder of the runs; default runs/<experiment>")
DRY = flags.DEFINE_boolean("dry", False, "print the table of runs and what they cost; start nothing")
ONLY = flags.DEFINE_string("only", "", "only the run of this name, e.g. dit-w64d4")
PUBLISH = flags.DEFINE_boolean("publish", False, "copy records and the last run's weights into the experiment's folder")
EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"


def find(name: str) -> str:
    """The experiment's folder name, from its name or number."""
    from sora_jax.types import InputError

    known = sorted(path.parent.name for path in EXPERIMENTS.glob("*/sweep.py"))
    near = [folder for folder in known if folder == name or folder.split("_")[0] == name]
    if len(near) != 1:
        raise InputError(f"--experiment={name}: no such experiment; there are {', '.join(known)}")
    return near[0]


def table(configs: list) -> str:
    """One line per run: name, parameters, clips, FLOPs, id."""
    from sora_jax import build
    from sora_jax.scaling import records

    rows = [f"{'run':16}{'n_core':>12}{'n_total':>12}{'clips':>10}{'FLOPs':>11}  id"]
    for config in configs:
        budget, name = build.budget(config), records.run_id(config.to_dict())
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


def run() -> None:
    """The door."""
    from sora_jax.scaling import records
    from sora_jax.types import InputError

    name = find(EXPERIMENT.value)
    root = Path(WORKDIR.value or f"runs/{name}")
    configs = list(importlib.import_module(f"experiments.{name}.sweep").runs())
    if DRY.value:
        print(table(configs))
        return
    if PUBLISH.value:
        publish(root, EXPERIMENTS / name, configs)
        return
    chosen = [config for config in configs if ONLY.value in ("", config.name)]
    if not chosen:
        raise InputError(f"--only={ONLY.value}: no such run; there are {', '.join(c.name for c in configs)}")
    from sora_jax.train import loop

    for config in chosen:
        for record in loop.run(config, root / config.name):
            print(f"{record['id']}: {record['model']} {record['clips']} clips, loss {record['val_loss']:.5f}")
        records.write(root / "runs.jsonl", gather(root, configs))
    print(f"records are in {root / 'runs.jsonl'}; draw them with python -m launch.figure --experiment {root}")


if __name__ == "__main__":
    door.main(run)
