"""A worker of a sweep of stub runs: each counts slowly to ten in its folder, resuming, and then writes its record.

    python stub_sweep.py ROOT RUNS FIRST [one]      "one": only the run of that number; STUB_PACE: seconds a step
"""
import functools
import os
import signal
import sys
import time
from pathlib import Path

from sora_jax import disk, lease, sweeping
from sora_jax.scaling import identity, records

RULE, STEPS, PACE = lease.Rule(beat=0.05, cold=2.0, pause=0.1), 10, float(os.environ.get("STUB_PACE", 0.012))


def configs(runs: int) -> list[dict]:
    """What the runs are: their ids do not depend on their order or spelling."""
    return [{"model": {"width": 16 + k, "depth": 2.0}, "clips": 1000 * (k + 1)} for k in range(runs)]


def row(config: dict) -> dict:
    """The record of a run."""
    from planted import record
    return record(id=identity.run_id(config), clips=config["clips"], width=config["model"]["width"])


def done(root: Path, config: dict) -> bool:
    """Whether the shared table has the record."""
    table = root / "runs.jsonl"
    return table.exists() and identity.run_id(config) in {r["id"] for r in records.read(table)}


def train(root: Path, config: dict, fence) -> None:
    """Count, save every step, record; `log` tells where each attempt began and who was the first to record. As in
    training, what is recorded once the folder is held is left alone: a sleeper may have done it while one waited."""
    folder = root / identity.run_id(config)
    state = folder / "step"
    with disk.hold(folder), open(folder / "log", "a", buffering=1) as log:
        if done(root, config):
            return
        begun = int(state.read_text()) if state.exists() else 0
        log.write(f"began at {begun}\n")
        for step in range(begun, STEPS):
            time.sleep(PACE)
            fence()
            disk.write(state, str(step + 1).encode())
        fence()
        log.write("recorded\n" if records.append(root / "runs.jsonl", row(config)) else "recorded again\n")


def tasks(root: Path, runs: int) -> list[sweeping.Task]:
    """The stub sweep."""
    return [sweeping.Task(name, root / name, functools.partial(done, root, config),
                          functools.partial(train, root, config))
            for config in configs(runs) for name in [identity.run_id(config)]]


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent / "scaling"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    every, first = tasks(Path(sys.argv[1]), int(sys.argv[2])), int(sys.argv[3])
    sweeping.work(every[first:first + 1] if sys.argv[4:] else every, RULE, first=0 if sys.argv[4:] else first)
