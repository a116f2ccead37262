"""The plan of a run: what it costs, before any device."""
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def plan(*arguments):
    command = [sys.executable, "-m", "launch.plan", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=300)


def test_a_plan_shows_every_cost():
    result = plan("--config=configs/dit.py:w64d4", "--config.train.clips=6400", "--flops-per-second=1e11")
    assert result.returncode == 0, result.stderr
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if line.startswith("  ")}
    assert {"n_core", "adaln", "text", "attention_scores", "tokens", "updates", "hours", "moments",
            "activations_kept"} <= set(rows)
    assert rows["updates"].split()[1] == "200" and "(N^2 d)" in rows["attention_scores"]


def test_a_plan_that_cannot_run_is_one_line():
    result = plan("--config=configs/dit.py:w64d4", "--config.model.heads=5")
    assert result.returncode == 2 and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert "model.heads=5" in result.stderr


def test_three_billion_on_256_devices_that_are_not_here():
    result = plan("--config=configs/dit.py:3B", "--config.mesh.data=4", "--config.mesh.fsdp=64",
                  "--config.train.batch=1024", "--config.train.clips=10_000_000", "--config.dtype=bfloat16",
                  "--flops-per-second=5e16", "--price=2")
    assert result.returncode == 0, result.stderr
    rows = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line.startswith("  ")}
    assert "256 devices: data 4 x fsdp 64" in result.stdout
    assert float(rows["weights"][1]) == pytest.approx(4 * 3.0e9 / 64 / 2**20, rel=0.01)
    hours, cost = float(rows["hours"][1]), float(rows["cost"][1].lstrip("$").replace(",", ""))
    assert cost == pytest.approx(hours * 256 * 2, rel=0.01)


def test_a_sweep_is_planned_whole():
    result = plan("--experiment=001", "--flops-per-second=8e10")
    lines = result.stdout.splitlines()
    assert result.returncode == 0 and len(lines) == 9 and lines[-1].startswith("all ")
    assert float(lines[-1].split()[-1]) == pytest.approx(sum(float(line.split()[-1]) for line in lines[1:-1]), abs=0.05)


def test_the_estimate_is_that_of_the_lecture():
    said = plan("--estimate").stdout
    for words in ("921,600 tokens", "$13.82", "$1.344 trillion", "6.17 B parameters", "50 times the matrices"):
        assert words in said


def test_a_plan_needs_something_to_plan():
    result = plan()
    assert result.returncode == 2 and "--config=FILE, --experiment=NAME or --estimate" in result.stderr


@pytest.mark.parametrize("more", [(), ("--config.data.images=x", "--config.train.images=4")], ids=["clips", "images"])
def test_measured_bytes_are_those_planned(more):
    result = plan("--config=configs/dit.py:w64d4", "--measure=2", *more)
    assert result.returncode == 0, result.stderr
    line = next(line for line in result.stdout.splitlines() if "bytes on a device" in line)
    assert abs(float(line.split()[-2])) < 15, line
