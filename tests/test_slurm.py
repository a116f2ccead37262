"""A real Slurm: an array of six runs, one of them queued again by hand and others pushed aside, each recorded once."""
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import stub_sweep

from launch import cluster
from sora_jax.scaling import identity, records

ROOT, RUNS = Path(__file__).resolve().parents[1], 6


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A cluster of this one machine; SLURM_CONF in the environment."""
    if shutil.which("slurmctld") is None and (os.geteuid() or shutil.which("apt-get") is None):
        pytest.skip("no Slurm here, and no root with apt-get to install slurm-wlm and munge")
    folder = tmp_path_factory.mktemp("slurm")
    script = ["bash", str(ROOT / "launch" / "local_slurm.sh")]
    begun = subprocess.run([*script, "start", str(folder)], capture_output=True, text=True)
    if shutil.which("slurmctld") is None:
        pytest.skip(f"slurm-wlm and munge could not be installed: {begun.stderr.strip()[-300:]}")
    assert begun.returncode == 0, begun.stderr[-2000:]
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    yield folder
    subprocess.run([*script, "stop", str(folder)])
    del os.environ["SLURM_CONF"]


def ask(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout


def until(test, seconds=480):
    end = time.time() + seconds
    while not test():
        assert time.time() < end, ask("squeue")
        time.sleep(0.5)


def step(root, k):
    """How far run k has counted."""
    path = root / identity.run_id(stub_sweep.configs(RUNS)[k]) / "step"
    return int(path.read_text()) if path.exists() else 0


@pytest.mark.slow
def test_an_array_survives_a_requeue_and_a_preemption(slurm, tmp_path):
    environment = f"STUB_PACE=5 PYTHONPATH={ROOT}:{ROOT / 'tests' / 'scaling'}"
    worker = shlex.join([sys.executable, str(ROOT / "tests" / "stub_sweep.py"), str(tmp_path), str(RUNS)])
    commands = [f"env {environment} {worker} {k} one" for k in range(RUNS)]
    said = cluster.slurm("stub", tmp_path, commands, "--cpus-per-task=1 --mem=200M --time=30:00")
    assert said.startswith("Submitted batch job"), said
    job = said.split()[-1]
    until(lambda: step(tmp_path, 0) >= 2 and step(tmp_path, 1) >= 1)
    subprocess.run(["scontrol", "requeue", f"{job}_1"], check=True)
    until(lambda: "Restarts=1" in ask("scontrol", "show", "job", f"{job}_1"))
    until(lambda: sum(0 < step(tmp_path, k) < 8 for k in range(1, RUNS)) >= 1)
    subprocess.run(["sbatch", "--partition=high", "--cpus-per-task=2", "--mem=200M", "--output=/dev/null",
                    "--wrap=sleep 3"], check=True, capture_output=True)
    until(lambda: "high" in ask("squeue", "--states=running"))
    table = tmp_path / "runs.jsonl"
    until(lambda: table.exists() and len(records.read(table)) == RUNS)
    until(lambda: not ask("squeue", "--noheader").strip(), 60)
    shown = ask("scontrol", "show", "job", job)
    restarts = [int(part.split("=")[1]) for part in shown.split() if part.startswith("Restarts=")]
    print("restarts of the six tasks:", restarts)
    assert sum(restarts) >= 2, "one was queued again, and at least one pushed aside"
    for config in stub_sweep.configs(RUNS):
        folder = tmp_path / identity.run_id(config)
        assert (folder / "log").read_text().count("recorded") == 1 and (folder / "step").read_text() == "10"
