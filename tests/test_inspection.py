"""A run is opened from wherever its weights lie, and what is not a run is said to be none."""
import json
import pathlib

import jax
import numpy as np
import pytest
import toy
from flax import nnx

from sora_jax import build, checkpoint
from sora_jax.types import InputError
from sora_jax.weights import save_weights, weights_hash

CONFIG = {"stage": "dit", "model": {"patch": [1, 2]}}


@pytest.fixture(autouse=True)
def toy_build(monkeypatch):
    graph, shapes = toy.state.split(toy.run().make)
    monkeypatch.setattr(build, "graph", lambda config: (graph, nnx.to_pure_dict(shapes)))
    monkeypatch.setattr(build, "model", lambda config, params, origin="": nnx.merge(graph, nnx.State(params)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    toy.follow(folder, 12, sizes={"data": 2, "fsdp": 4})
    (folder / "config.json").write_text(json.dumps(CONFIG))
    run = toy.run()
    return folder, {k: checkpoint.Checkpoints(folder / "checkpoints").restore(run.abstract(), k).state for k in (8, 12)}


def works(run):
    return np.isfinite(np.asarray(run.model(jax.numpy.ones((2, toy.WIDTH))))).all()


def test_a_run_folder_opens_at_its_last_checkpoint(trained):
    folder, states = trained
    before = sorted(path.name for path in folder.rglob("*"))
    run = checkpoint.load_for_inspection(folder)
    assert works(run) and weights_hash(run.params) == weights_hash(states[12].ema)
    assert run.config.model.patch == (1, 2) and run.meta["step"] == 12 and run.record is None
    assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves(run.params))
    assert sorted(path.name for path in folder.rglob("*")) == before, "opening writes nothing"


def test_step_and_kind_of_weights_can_be_chosen(trained):
    folder, states = trained
    assert weights_hash(checkpoint.load_for_inspection(folder, step=8).params) == weights_hash(states[8].ema)
    raw = checkpoint.load_for_inspection(str(folder), weights="params")
    assert weights_hash(raw.params) == weights_hash(states[12].params)
    with pytest.raises(InputError, match="weights='best'"):
        checkpoint.load_for_inspection(folder, weights="best")
    with pytest.raises(InputError, match="step 9: not there"):
        checkpoint.load_for_inspection(folder, step=9)


def test_a_finished_run_opens_at_its_weights_with_its_record(trained, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "record.json").write_text(json.dumps({"id": "a", "val_loss": 0.5}))
    save_weights(tmp_path / "weights.safetensors", trained[1][12].ema, {"id": "a"})
    run = checkpoint.load_for_inspection(tmp_path)
    assert works(run) and run.record["val_loss"] == 0.5 and run.meta["id"] == "a"


def test_an_experiment_folder_opens_at_its_committed_weights(trained, tmp_path):
    path = tmp_path / "weights" / "w64.safetensors"
    save_weights(path, trained[1][12].ema, {"id": "w64-seed0", "config": CONFIG}, storage="float16")
    (tmp_path / "runs.jsonl").write_text('{"id": "other"}\n{"id": "w64-seed0", "val_loss": 0.25}\n')
    for where in (tmp_path, path):
        run = checkpoint.load_for_inspection(where)
        assert works(run) and run.record["val_loss"] == 0.25 and run.config.stage == "dit"
    save_weights(path.with_name("w32.safetensors"), trained[1][12].ema, {"config": CONFIG})
    with pytest.raises(InputError, match="2 weights files; name one, for example .*w32.safetensors"):
        checkpoint.load_for_inspection(tmp_path)


def nothing(folder):
    return folder / "nowhere"


def empty(folder):
    return folder


def other(folder):
    (folder / "holiday.jpg").write_text("")
    return folder


def unsaved(folder):
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def nameless(folder):
    save_weights(folder / "w.safetensors", {"a": np.zeros(1, np.float32)}, {})
    return folder


@pytest.mark.parametrize("make, words", [
    (nothing, "nowhere: no such file or folder"),
    (empty, "is not a run: looked for config.json, .* found nothing"),
    (other, "is not a run: .* found holiday.jpg"),
    (unsaved, "has not saved yet"),
    (nameless, "has no config in its header"),
])
def test_what_is_not_a_run_is_said_to_be_none(tmp_path, make, words):
    with pytest.raises(InputError, match=words) as caught:
        checkpoint.load_for_inspection(make(tmp_path))
    assert "\n" not in str(caught.value) and not list(pathlib.Path(tmp_path).glob("checkpoints"))
