"""Redraws what changes to one run do at equal FLOPs: figure.svg and .png, and a table beside the noise of a seed.

    python -m launch.ablation --experiment=011_variants

The experiment's sweep.py names the changes: GROUPS, from group to names; runs are called <group>-<name> and default.
"""
import importlib
from pathlib import Path

from absl import flags

from launch import door, studies

EXPERIMENT = flags.DEFINE_string("experiment", None, "an experiment's name or number", required=True)
OUT = flags.DEFINE_string("out", None, "folder to write to; the experiment's own if not given")


def run() -> None:
    """The door."""
    from sora_jax.scaling import ablation, records
    from sora_jax.types import InputError

    name = studies.find(EXPERIMENT.value)
    folder = studies.EXPERIMENTS / name
    groups = getattr(importlib.import_module(f"experiments.{name}.sweep"), "GROUPS", None)
    if groups is None:
        raise InputError(f"--experiment={EXPERIMENT.value}: its sweep.py has no GROUPS of changes")
    found = ablation.compare(records.read(folder / "runs.jsonl"), groups)
    print(ablation.table(found))
    out = Path(OUT.value or folder)
    out.mkdir(parents=True, exist_ok=True)
    for ending in ("svg", "png"):
        ablation.draw(found, out / f"figure.{ending}")
    print(f"wrote {out / 'figure.svg'} and figure.png")


if __name__ == "__main__":
    door.main(run)
