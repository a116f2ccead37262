"""A sweep ends exactly once whatever kills its workers; errors are tried again; text for schedulers; the board."""
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import stub_sweep

from launch import cluster
from sora_jax import board, disk, lease, sweeping
from sora_jax.scaling import identity, records
from sora_jax.types import ConfigError, InputError

ROOT = Path(__file__).resolve().parents[1]
QUICK = lease.Rule(beat=0.05, cold=0.5, retries=2, pause=0.05)


def worker(root, runs, first):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'scaling'}", "STUB_PACE": "0.1"}
    return subprocess.Popen([sys.executable, str(ROOT / "tests" / "stub_sweep.py"), str(root), str(runs), str(first)],
                            env=environment, stdout=subprocess.DEVNULL)


def at_work(root):
    """Process numbers of those who hold a run just now."""
    claims = [max(folder.glob("*.json"), default=None) for folder in root.glob(f"*/{lease.FOLDER}")]
    open_ = [path for path in claims if path and not path.with_suffix(".end").exists()]
    return {json.loads(path.read_text())["pid"] for path in open_}


def test_64_runs_are_recorded_once_each_under_30_kills(tmp_path):
    """Whoever holds a run is killed, or stopped past its lease and woken later, until 30 are down."""
    runs, rng, kills, slept = 64, random.Random(0), 0, []
    crew = [worker(tmp_path, runs, 16 * k) for k in range(4)]
    deadline = time.time() + 300
    while time.time() < deadline and any(process.poll() is None for process in crew):
        time.sleep(rng.uniform(0.05, 0.3))
        holders = at_work(tmp_path) if kills < 30 else set()
        busy = [k for k, process in enumerate(crew) if process.pid in holders and process.poll() is None]
        if busy:
            k = rng.choice(busy)
            if rng.random() < 0.2:
                crew[k].send_signal(signal.SIGSTOP)
                slept.append(crew[k])
            else:
                crew[k].kill()
            kills += 1
            crew[k] = worker(tmp_path, runs, rng.randrange(runs))
        if kills == 30:  # sleepers keep the kernel's lock on their runs, so these wait for them
            for process in slept:
                process.send_signal(signal.SIGCONT)
    assert kills == 30 and {process.wait(timeout=60) for process in [*slept, *crew]} <= {0, sweeping.LOST}
    found = records.read(tmp_path / "runs.jsonl")
    assert len(found) == 64 and len({row["id"] for row in found}) == 64
    logs = [(tmp_path / row["id"] / "log").read_text() for row in found]
    assert not any("again" in log for log in logs), "no run was trained to its end twice"
    begun = [int(line.split()[-1]) for log in logs for line in log.splitlines() if line.startswith("began")]
    assert len(begun) > runs and max(begun) > 0, "some runs were gone on with, from where they were"


def test_ids_do_not_depend_on_order_or_spelling():
    for config in stub_sweep.configs(3):
        other = {"clips": float(config["clips"]), "model": dict(reversed(config["model"].items()))}
        assert identity.run_id(json.loads(json.dumps(other))) == identity.run_id(config)


def task_of(folder, train, finished=lambda: False):
    return sweeping.Task(folder.name, folder, finished, train)


def test_what_raises_is_tried_again_and_what_keeps_raising_is_given_up(tmp_path):
    tries, said = [], []

    def flaky(fence):
        tries.append("flaky")
        if tries.count("flaky") < 3:
            raise RuntimeError("the disk hiccuped")

    def broken(fence):
        tries.append("broken")
        raise RuntimeError("always")

    def wrong(fence):
        tries.append("wrong")
        raise ConfigError("patch does not divide")

    tasks = [task_of(tmp_path / "flaky", flaky, lambda: tries.count("flaky") == 3),
             task_of(tmp_path / "broken", broken), task_of(tmp_path / "wrong", wrong)]
    ends = {end.task.name: end.status for end in sweeping.work(tasks, QUICK, said.append)}
    assert {name: (end.state, end.attempts) for name, end in ends.items()} == {
        "flaky": ("done", 3), "broken": ("failed", 3), "wrong": ("failed", 1)}
    assert ends["broken"].error == "RuntimeError: always" and ends["wrong"].error == "patch does not divide"
    assert any("attempt 2 failed: RuntimeError" in line for line in said)


def test_an_interrupted_worker_leaves_its_run_free(tmp_path):
    def stopped(fence):
        raise SystemExit(143)

    with pytest.raises(SystemExit):
        sweeping.work([task_of(tmp_path / "one", stopped)], QUICK)
    assert lease.status(tmp_path / "one", QUICK).state == "free"


def test_a_lock_that_is_still_held_is_no_failure(tmp_path):
    """A holder that was stopped past its lease keeps the kernel's lock until it wakes."""
    def locked(fence):
        raise disk.Held("being written by process 1")

    assert not sweeping.once(task_of(tmp_path / "one", locked), QUICK, lambda line: None)
    found = lease.status(tmp_path / "one", QUICK)
    assert (found.state, found.failures) == ("waiting", 0)
    time.sleep(QUICK.pause + 0.05)
    assert lease.status(tmp_path / "one", QUICK).state == "free"


def test_a_fenced_run_writes_nothing_more(tmp_path):
    def overtaken(fence):
        (tmp_path / "one" / lease.FOLDER / "000002.json").write_text("{}")
        fence()
        raise AssertionError("went on")

    assert sweeping.once(task_of(tmp_path / "one", overtaken), QUICK, lambda line: None)
    assert not list((tmp_path / "one" / lease.FOLDER).glob("*.end"))


def test_text_for_schedulers(tmp_path, monkeypatch):
    lines = [cluster.command("001_x", Path("/runs/a b"), f"run-{k}", "python") for k in range(2)]
    assert shlex.split(lines[1]) == ["python", "-m", "launch.sweep", "--experiment=001_x", "--only=run-1",
                                     "--workdir=/runs/a b"]
    monkeypatch.setattr("shutil.which", lambda name: None)
    said = cluster.slurm("001_x", tmp_path, lines, "--time=1:00 --mem=2G")
    script = (tmp_path / "slurm" / "array.sbatch").read_text()
    assert said.startswith("no sbatch here") and "#SBATCH --array=1-2\n" in script and "#SBATCH --mem=2G\n" in script
    assert subprocess.run(["bash", "-n", tmp_path / "slurm" / "array.sbatch"]).returncode == 0
    assert all(line in script.splitlines() for line in lines)
    monkeypatch.setattr("shutil.which", lambda name: "/bin/sbatch")
    refused = subprocess.CompletedProcess([], 1, "", "sbatch: error: no partition")
    monkeypatch.setattr(subprocess, "run", lambda *args, **rest: refused)
    with pytest.raises(InputError, match="sbatch refused .*: sbatch: error: no partition"):
        cluster.slurm("001_x", tmp_path, lines, "")
    assert cluster.slurm("001_x", tmp_path, [], "") == "every run is recorded; nothing to submit"
    sets = cluster.jobset("001_x", lines).split("\n---\n")
    assert len(sets) == 2 and "name: 001-x-1" in sets[1] and "--only=run-1" in sets[1]
    assert cluster.xpk("001_x", lines).count("xpk workload create") == 2


def test_the_array_script_runs_its_own_line(tmp_path, monkeypatch):
    """Without Slurm: bash with the variable that Slurm sets."""
    lines = [f"{sys.executable} -c 'print(\"line {k}\")'" for k in range(3)]
    monkeypatch.setattr("shutil.which", lambda name: None)
    cluster.slurm("x", tmp_path, lines, "")
    done = subprocess.run(["bash", tmp_path / "slurm" / "array.sbatch"], capture_output=True, text=True,
                          env={**os.environ, "SLURM_ARRAY_TASK_ID": "2"})
    assert done.stdout == "line 1\n", done.stderr


def test_the_board_tells_every_state(tmp_path):
    now = time.time()
    for name in ("running", "stopped", "recorded"):
        (tmp_path / name).mkdir()
        rows = [{"step": k, "time": now - 100 + k, "checkpoints/loss": 1.0 / k} for k in range(1, 101)]
        (tmp_path / name / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + '\n{"step": 10')
    held = lease.claim(tmp_path / "running", QUICK)
    held.path.touch()
    lease.claim(tmp_path / "stopped", QUICK).end("left")
    lease.claim(tmp_path / "failed", QUICK).end("failed", "boom\nRuntimeError: no space", final=True)
    names = ("running", "stopped", "recorded", "failed", "waiting")
    table = board.rows([board.Entry(name, tmp_path / name, 400, name == "recorded") for name in names], QUICK)
    assert [row[1] for row in table] == ["running", "stopped", "done", "failed", "waiting"]
    running = dict(zip(board.HEADER, table[0], strict=True))
    assert running["step"] == "100" and running["loss"] == "0.01" and running["updates/s"] == "1"
    assert running["left"] == "5 min" and running["attempts"] == "1"
    assert table[3][-1] == "RuntimeError: no space"
    assert board.text(table).endswith("1 running, 1 stopped, 1 done, 1 failed, 1 waiting")
    page = board.write(tmp_path / "board.html", "sweep", table).read_text()
    assert "RuntimeError: no space" in page and "http" not in page.replace("http-equiv", "")
