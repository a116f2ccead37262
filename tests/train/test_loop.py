"""A run from its config to its records: what it leaves, what it refuses, and that it is done once."""
import json
import os
import re

import fabricated
import jax
import numpy as np
import pytest

from configs import smoke
from sora_jax import build, checkpoint, disk, lease, pipeline, report, sources
from sora_jax.scaling import records as ledger
from sora_jax.train import evaluating, loop, recording
from sora_jax.types import InputError
from sora_jax.weights import load_weights, weights_hash

CLIPS, STEPS = 160, 20
SCALED = 1e-3


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return fabricated.latents(tmp_path_factory.mktemp("latents"))


def config_of(stage, cache):
    config = smoke.get_config(stage)
    config.train.clips = CLIPS
    if stage == "dit":
        config.data.path = str(cache)
    return config


@pytest.fixture(scope="module", params=["vae", "dit"])
def finished(request, cache, tmp_path_factory):
    """(config, folder, records) of a run of each stage."""
    folder, config = tmp_path_factory.mktemp(request.param), config_of(request.param, cache)
    return config, folder, loop.run(config, folder)


def test_every_annealed_point_has_a_whole_record(finished):
    config, folder, found = finished
    assert [record["steps"] for record in found] == [STEPS // 2, STEPS]
    assert found == ledger.read(folder / "records.jsonl") and found == [ledger.validate(record) for record in found]
    counts, forward = build.param_counts(config), sum(build.forward_flops(config).values())
    for record in found:
        absent = ("branch_of", "val_loss_se", "started_from")
        assert all(record[name] is not None for name in ledger.FIELDS if name not in absent)
        assert record["clips"] == 8 * record["steps"] and record["flops"] == 3 * forward * record["clips"]
        assert record["tokens"] == record["clips"] * record["tokens_per_clip"]
        assert record["latent_elements"] == 4 * record["tokens"] * (1 if config.stage == "vae" else 4)
        assert record["params"] == counts and record["n_total"] == sum(counts.values())
        assert record["annealed"] and record["cooldown_fraction"] == 0.2 and record["train_seconds"] > 0
        assert 0 < record["val_loss"] != record["val_loss_raw"] > 0
    assert [record["branch_of"] for record in found] == [found[1]["id"], None]
    assert found[0]["id"] != found[1]["id"] and len({record["config_hash"] for record in found}) == 1
    if config.stage == "dit":
        assert len(found[0]["val_bins"]) == config.eval.times and found[0]["val_loss_se"] > 0
        assert np.mean(found[0]["val_bins"]) == pytest.approx(found[0]["val_loss"])
    else:
        assert found[0]["val_loss"] == pytest.approx(10 ** (-found[0]["metrics"]["psnr"] / 10))


def test_branches_are_cooled_and_cleared(finished):
    _, folder, _ = finished
    rows = report.Writer(folder).rows()
    rates = {name: [row[f"{name}/rate"] for row in rows if f"{name}/rate" in row]
             for name in ("checkpoints", "branch-10", "branch-20")}
    assert len(rates["checkpoints"]) == 16 and set(rates["checkpoints"]) == {rates["checkpoints"][0]}
    for name, updates in (("branch-10", 2), ("branch-20", 4)):
        assert len(rates[name]) == updates and rates[name] == sorted(rates[name], reverse=True)
        assert rates[name][0] == rates["checkpoints"][0] > 2 * rates[name][-1] > 0
    assert not (folder / "branch-10").exists() and (folder / "curve.png").stat().st_size > 1000
    assert {path.name for path in folder.glob("*.safetensors")} == {"weights-80.safetensors", "weights.safetensors"}


def test_the_weights_are_those_of_the_record(finished, cache):
    config, folder, found = finished
    for name, record in (("weights-80.safetensors", found[0]), ("weights.safetensors", found[1])):
        run = checkpoint.load_for_inspection(folder / name)
        assert run.meta["id"] == record["id"] and run.meta["record"] == record
        assert build.to_json(run.config) == build.to_json(config)
        measured = evaluating.Evaluation(config, build.graph(config)[0]).measure(run.params)
        assert measured["val_loss"] == pytest.approx(record["val_loss"], rel=1e-5)
        assert config.stage == "vae" or run.meta["vae_hash"] == fabricated.HASH
    opened = checkpoint.load_for_inspection(folder)
    assert weights_hash(opened.params) == load_weights(folder / "weights.safetensors")[1]["hash"]


@pytest.mark.parametrize("finished", ["vae"], indirect=True)
def test_the_latents_of_an_autoencoder_leave_it_scaled(finished):
    config, folder, _ = finished
    run = checkpoint.load_for_inspection(folder)
    assert np.abs(run.model.std[...] - 1).min() > 1e-4, "the statistics were never measured"
    z = np.asarray(pipeline.encode(run.model, sources.whole_clips(config)))
    np.testing.assert_allclose(z.mean((0, 1, 2, 3)), 0, atol=SCALED)
    np.testing.assert_allclose(z.std((0, 1, 2, 3)), 1, atol=SCALED)


def test_running_again_changes_nothing(finished):
    config, folder, found = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != "run.lock"}
    assert loop.run(config, folder) == found
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")
                      if path.is_file() and path.name != "run.lock"}


def test_another_config_in_the_same_folder_is_refused(finished):
    config, folder, found = finished
    other = build.from_json(build.to_json(config))
    other.optimizer.lr, other.train.save = 1e-3, 0.5
    before = (folder / "config.json").read_text(), (folder / "metrics.jsonl").read_text()
    with pytest.raises(InputError, match=r"holds a run of another config \(optimizer.lr: 0.002 → 0.001; train.save"):
        loop.run(other, folder)
    assert before == ((folder / "config.json").read_text(), (folder / "metrics.jsonl").read_text())
    assert ledger.read(folder / "records.jsonl") == found


def test_a_field_that_configs_gained_later_does_not_stop_a_run(tmp_path):
    config = smoke.get_config("dit")
    saved = json.loads(build.to_json(config))
    del saved["optimizer"]["widths"]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    recording.describe(config, tmp_path)
    assert (tmp_path / "config.json").read_text() == build.to_json(config)


def test_statistics_of_fewer_clips_than_a_batch():
    config = smoke.get_config("vae")
    params = jax.tree.map(lambda leaf: 0.1 * np.ones(leaf.shape, np.float32), build.graph(config)[1])
    videos = np.random.default_rng(0).integers(0, 256, (3, 3, 16, 16, 3), np.uint8)
    mean, std = evaluating.statistics(build.graph(config)[0], params, videos)
    again = evaluating.statistics(build.graph(config)[0], params, videos, batch=2)
    assert mean.shape == std.shape == (4,)
    np.testing.assert_allclose((mean, std), again, rtol=1e-4)


def test_one_writer_at_a_time(cache, tmp_path):
    config = config_of("dit", cache)
    with disk.hold(tmp_path / "run"), pytest.raises(InputError, match="is being written by process") as caught:
        loop.run(config, tmp_path / "run")
    assert re.search(rf"process {os.getpid()} on", str(caught.value))
    assert os.listdir(tmp_path / "run") == ["run.lock"]


def test_a_run_that_was_taken_over_writes_nothing_more(cache, tmp_path):
    """The fence is asked before every save and record; whoever holds the run next goes on from what was saved."""
    asked = []

    def fence():
        asked.append(len(list(tmp_path.glob("checkpoints/[0-9]*"))))
        if len(asked) == 4:
            raise lease.Fenced("overtaken")

    config = config_of("dit", cache)
    with pytest.raises(lease.Fenced):
        loop.run(config, tmp_path, fence)
    assert not (tmp_path / "records.jsonl").exists() and not loop.finished(config, tmp_path)
    assert [record["steps"] for record in loop.run(config, tmp_path)] == [STEPS // 2, STEPS]
    assert loop.finished(config, tmp_path)
