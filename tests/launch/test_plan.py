"""The plan of a run: what it costs, before any device."""
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def plan(*arguments):
    command = [sys.executable, "-m", "launch.plan", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=300)


def test_a_plan_shows_every_cost():
    result = plan("--config=configs/dit.py:w64d4", "--config.train.clips=6400", "--flops-per-second=1e11")
    assert result.returncode == 0, result.stderr
    rows = {line.split()[0]: line for line in result.stdout.splitlines() if line.startswith("  ")}
    assert {"n_core", "adaln", "text", "attention_scores", "tokens", "updates", "hours", "adam_moments",
            "activations_kept"} <= set(rows)
    assert rows["updates"].split()[1] == "200" and "(N^2 d)" in rows["attention_scores"]


def test_a_plan_that_cannot_run_is_one_line():
    result = plan("--config=configs/dit.py:w64d4", "--config.model.heads=5")
    assert result.returncode == 2 and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert "model.heads=5" in result.stderr
