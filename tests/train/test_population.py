"""Runs trained together are the runs trained alone: what they leave, killed or not, and when one of them diverges."""
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import fabricated
import jax
import numpy as np
import pytest

from configs import smoke
from sora_jax import measure
from sora_jax.scaling import records as ledger
from sora_jax.train import loop, population, recording
from sora_jax.types import ConfigError, InputError
from sora_jax.weights import load_weights

HERE = Path(__file__).resolve()
CLIPS, ENDS, RATES, WILD = 80, [5, 10], (2e-3, 5e-3), 1e30
TOGETHER = 1e-5  # of weights of order 1 after ten updates: batched products add up in another order
OF_THE_CLOCK = ("train_seconds", "commit")
CHILD = """
import os, signal, sys
import test_population as test
from sora_jax import disk

seal, seen = disk.seal, []

def deadly(*arguments):
    seen.append(arguments)
    if len(seen) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    seal(*arguments)

disk.seal = deadly
test.population.run(test.members(sys.argv[1]), sys.argv[2])
"""


def member(cache, name, seed=0, rate=RATES[0]):
    config = smoke.get_config("dit")
    config.name, config.seed, config.optimizer.lr = name, seed, rate
    config.data.path, config.train.clips, config.train.log = str(cache), CLIPS, 0.1
    config.train.save = 0.3
    return config


def members(cache):
    """Two seeds, the larger first, at two rates; and one at a rate that no run survives."""
    grid = [member(cache, f"seed{seed}-rate{i}", seed, rate) for seed in (7, 0) for i, rate in enumerate(RATES)]
    return [*grid[:1], member(cache, "wild", 0, WILD), *grid[1:]]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return fabricated.latents(tmp_path_factory.mktemp("latents"))


@pytest.fixture(scope="module")
def sane(cache):
    return [config for config in members(cache) if config.name != "wild"]


@pytest.fixture(scope="module")
def alone(sane, tmp_path_factory):
    """The folder of the runs trained one by one, without pictures."""
    root = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(recording, "pictures", lambda job, ema: None)
        for config in sane:
            loop.run(config, root / config.name)
    return root


@pytest.fixture(scope="module")
def together(cache, tmp_path_factory):
    """The folder of the population."""
    root = tmp_path_factory.mktemp("together")
    with pytest.raises(FloatingPointError, match="diverged: wild by update 3; the other members are recorded"):
        population.run(members(cache), root)
    return root


def weights(folder):
    """Both weights files as one vector each."""
    paths = [folder / f"weights{suffix}.safetensors" for suffix in (f"-{CLIPS // 2}", "")]
    return [np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(load_weights(path)[0])]) for path in paths]


def rows(folder):
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return sorted(({k: v for k, v in row.items() if k != "time"} for row in found), key=lambda row: sorted(row.items()))


def facts(record):
    """A record without the clock, and its measured numbers apart."""
    measured = {name: record[name] for name in ("val_loss", "val_loss_se", "val_loss_raw", "val_bins")}
    rest = {k: v for k, v in record.items() if k not in measured and k not in OF_THE_CLOCK}
    return rest | {"environment": {k: v for k, v in rest["environment"].items() if k != "population"}}, measured


def test_a_member_is_the_run_alone(alone, together, sane):
    for config in sane:
        one, other = alone / config.name, together / config.name
        assert (one / "config.json").read_text() == (other / "config.json").read_text()
        for a, b in zip(weights(one), weights(other), strict=True):
            np.testing.assert_allclose(a, b, atol=TOGETHER, rtol=0)
        found = [ledger.read(folder / "records.jsonl") for folder in (one, other)]
        assert [record["steps"] for record in found[1]] == ENDS and loop.finished(config, other)
        for a, b in zip(*found, strict=True):
            assert facts(a)[0] == facts(b)[0] and b["train_seconds"] > 0
            assert b["environment"]["population"] == 5 and "population" not in a["environment"]
            assert facts(b)[1] == {name: pytest.approx(value, rel=TOGETHER) for name, value in facts(a)[1].items()}
        for a, b in zip(rows(one), rows(other), strict=True):
            assert b == pytest.approx(a, rel=TOGETHER, abs=TOGETHER)
        assert ({path.name for path in one.iterdir()} ^ {path.name for path in other.iterdir()}
                == {"checkpoints", "branch-10", "curve.png"})


def test_members_that_begin_from_weights_and_see_images_too_are_the_runs_alone(cache, alone, sane, tmp_path):
    images = fabricated.latents(tmp_path / "images", frames=1)
    configs = [member(cache, f"seed{seed}", seed) for seed in (3, 4)]
    for config in configs:
        config.data.images, config.train.images = str(images), 1
        config.train.start = str(alone / sane[0].name)
    found = population.run(configs, tmp_path / "together")
    for config in configs:
        one = loop.run(config, tmp_path / "alone" / config.name)
        other = [record for record in found if record["experiment"] == config.name]
        assert [record["started_from"] for record in other] == [record["started_from"] for record in one]
        assert other[0]["started_from"] and other[0]["images"] == one[0]["images"] == other[0]["clips"]
        for a, b in zip(weights(tmp_path / "alone" / config.name), weights(tmp_path / "together" / config.name),
                        strict=True):
            np.testing.assert_allclose(a, b, atol=TOGETHER, rtol=0)


def test_members_share_the_devices_that_divide_them():
    counts = {members: population.spread(members).size for members in (1, 2, 3, 8, 9, 12)}
    assert counts == {1: 1, 2: 2, 3: 3, 8: 8, 9: 3, 12: 6}


def test_another_seed_or_rate_is_far_away(alone, together, sane):
    wanted = weights(alone / sane[0].name)[1]
    for config in sane[1:]:
        assert np.abs(weights(together / config.name)[1] - wanted).max() > 100 * TOGETHER
    losses = {ledger.read(together / config.name / "records.jsonl")[1]["val_loss"] for config in sane}
    assert len(losses) == len(sane)


def test_killed_is_uninterrupted(cache, together, sane, tmp_path):
    """By SIGKILL while it seals the checkpoint of update 6, and without one of the records of update 5."""
    environment = {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
                   "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1", "JAX_NUM_CPU_DEVICES": "8",
                   "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
                   "PYTHONPATH": f"{HERE.parents[2]}:{HERE.parent}"}
    child = subprocess.run([sys.executable, "-c", CHILD, str(cache), str(tmp_path)], capture_output=True, text=True,
                           env={**os.environ, **environment})
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert {path.name for path in tmp_path.glob("checkpoints/[0-9]*")} == {"3", "4"}
    (tmp_path / sane[1].name / "records.jsonl").unlink()
    with pytest.raises(FloatingPointError, match="wild by update 3;"):
        population.run(members(cache), tmp_path)
    for config in sane:
        one, other = together / config.name, tmp_path / config.name
        assert all((a == b).all() for a, b in zip(weights(one), weights(other), strict=True))
        found = [ledger.read(folder / "records.jsonl") for folder in (one, other)]
        assert [facts(record) for record in found[0]] == [facts(record) for record in found[1]]
        assert rows(one) == rows(other)
    assert not list(tmp_path.glob("branch-5"))


def test_what_is_recorded_is_not_trained_again(together, sane):
    before = {path: path.stat().st_mtime_ns for path in together.rglob("*") if path.name != "run.lock"}
    found = population.run(sane, together)
    assert [record["experiment"] for record in found] == [config.name for config in sane for _ in ENDS]
    assert before == {path: path.stat().st_mtime_ns for path in together.rglob("*") if path.name != "run.lock"}


def test_a_folder_of_other_members_is_refused(cache, together):
    with pytest.raises(InputError, match=r"other members \(not the same: wild, new\)"):
        population.run([*(c for c in members(cache) if c.name != "wild"), member(cache, "new", 3)], together)
    assert not (together / "new" / "config.json").exists()


@pytest.mark.parametrize("changes, message", [
    ([{"train.batch": 16}, {}], "train.batch is 16 and 8: members of a population differ only in name, seed, optim"),
    ([{}, {"optimizer.muon": 0.0}], "optimizer.muon is 8.0 and 0.0"),
    ([{}, {"name": "a"}], "name='a' is that of 2 members"),
    ([{"mesh.data": 2}] * 2, "mesh.data=2: no member of a population is split"),
    ([{"stage": "vae"}] * 2, "stage='vae': a population is of transformers"),
    ([], "without members"),
])
def test_what_is_not_a_population(cache, tmp_path, changes, message):
    configs = [member(cache, name) for name, _ in zip("ab", changes, strict=False)]
    for config, fields in zip(configs, changes, strict=True):
        config.update_from_flattened_dict(fields)
    with pytest.raises(ConfigError, match=message):
        population.run(configs, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_gain_is_that_of_all_members():
    assert measure.Gain(4, alone=0.1, together=0.2).ratio == pytest.approx(2.0)
