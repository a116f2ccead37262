"""The experiments of this checkout: their names, and the configs of their runs."""
import importlib
from pathlib import Path

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"


def find(name: str) -> str:
    """The experiment's folder name, from its name or number. Raises InputError listing those that exist."""
    from sora_jax.types import InputError

    known = sorted(path.parent.name for path in EXPERIMENTS.glob("*/sweep.py"))
    near = [folder for folder in known if folder == name or folder.split("_")[0] == name]
    if len(near) != 1:
        raise InputError(f"--experiment={name}: no such experiment; there are {', '.join(known)}")
    return near[0]


def folder(name: str) -> Path:
    """A folder that is there, or the experiment of this name or number. Raises InputError."""
    return Path(name) if Path(name).exists() else EXPERIMENTS / find(name)


def configs(name: str) -> list:
    """The config of every run of an experiment, in its order."""
    return list(importlib.import_module(f"experiments.{name}.sweep").runs())
