"""Records: written once and whole, read with the missing field named; run ids; what a fit takes from them."""
import json
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from planted import record, sweep

from sora_jax.scaling import identity, records
from sora_jax.types import InputError


def full(**changes):
    return records.validate(record(**changes))


def test_round_trip_fills_defaults(tmp_path):
    path = tmp_path / "deep" / "runs.jsonl"
    assert records.append(path, record(val_bins=[0.1, 0.2]))
    (row,) = records.read(path)
    assert row == records.validate(record(val_bins=[0.1, 0.2])) and row["branch_of"] is None
    assert [p.name for p in path.parent.iterdir()] == ["runs.jsonl"], "no litter beside the records"


def test_a_run_is_recorded_once(tmp_path):
    path = tmp_path / "runs.jsonl"
    assert records.append(path, record())
    before = path.read_bytes()
    assert not records.append(path, record()), "the identical record is accepted and changes nothing"
    with pytest.raises(InputError, match="'a' is already recorded with another val_loss"):
        records.append(path, record(val_loss=0.4))
    assert path.read_bytes() == before
    path.write_bytes(before * 2)
    with pytest.raises(InputError, match="'a' occurs twice"):
        records.read(path)
    with pytest.raises(InputError, match="'a' occurs twice"):
        records.write(path, [record(), record()])


@pytest.mark.parametrize("name", records.REQUIRED)
def test_a_missing_field_is_named(name):
    row = record()
    del row[name]
    with pytest.raises(InputError, match=f"'{name}'"):
        records.validate(row)


@pytest.mark.parametrize("change, word", [
    ({"val_loss": math.nan}, "val_loss"), ({"val_loss": math.inf}, "val_loss"), ({"n_core": 0}, "n_core"),
    ({"flops": "1e14"}, "flops"), ({"annealed": 1}, "annealed"), ({"valloss": 1.0}, "valloss"),
    ({"metrics": {"fvd": math.nan}}, "nan"), ({"clips": True}, "clips")])
def test_a_wrong_field_is_named(change, word):
    with pytest.raises(InputError, match=word) as raised:
        records.validate(record(**change))
    assert "\n" not in str(raised.value)


def test_a_torn_line_is_named(tmp_path):
    path = tmp_path / "runs.jsonl"
    records.append(path, record())
    with path.open("a") as stream:
        stream.write('{"id": "b", "exper')
    with pytest.raises(InputError, match=r"runs.jsonl:2: not a JSON object"):
        records.read(path)
    with pytest.raises(InputError, match="no such file"):
        records.read(tmp_path / "absent.jsonl")


def test_arrays_and_numpy_numbers_are_written_as_json(tmp_path):
    path = tmp_path / "runs.jsonl"
    records.append(path, record(n_core=int(np.int64(5)), val_bins=np.array([1.0, 2.0]), metrics={"x": np.float32(0.5)}))
    row = json.loads(path.read_text())
    assert row["val_bins"] == [1.0, 2.0] and row["metrics"] == {"x": 0.5}


def test_writers_append_together(tmp_path):
    path = tmp_path / "runs.jsonl"
    with ThreadPoolExecutor(8) as pool:  # each writer opens the lock anew, as another process would
        list(pool.map(lambda k: records.append(path, record(id=str(k))), range(24)))
    assert {r["id"] for r in records.read(path)} == {str(k) for k in range(24)}


def test_run_id_is_of_the_values():
    one = {"a": 1, "b": {"lr": 1e-3, "betas": (0.9, 0.95)}, "c": None}
    same = {"c": None, "b": {"betas": [np.float64(0.9), 0.95], "lr": 0.001}, "a": 1.0}
    assert identity.run_id(one) == identity.run_id(same) == identity.run_id(json.loads(json.dumps(one)))
    others = [{**one, "a": True}, {**one, "a": "1"}, {**one, "a": 1 + 1e-15}, {**one, "c": 0}, {**one, "d": None},
              {**one, "a": float("nan")}, {"a": 1, "b": {"lr": 1e-3, "betas": (0.95, 0.9)}, "c": None}]
    names = {identity.run_id(config) for config in [one, *others]}
    assert len(names) == len(others) + 1
    assert identity.run_id({"a": -0.0}) == identity.run_id({"a": 0}) and len(identity.run_id(one)) == 12
    assert identity.run_id({}) != identity.run_id({"a": {}}), "nothing is left out"


@pytest.mark.parametrize("config, where", [({"a": {"b": {1, 2}}}, "config.a.b"), ({"a": [object()]}, r"config.a\[0\]"),
                                           ({"a": {1: 2}}, "config.a")])
def test_run_id_refuses_what_it_cannot_spell(config, where):
    with pytest.raises(TypeError, match=where):
        identity.run_id(config)


def test_points_name_their_columns_and_runs():
    rows = sweep(branches=3) + [full(id="hot", annealed=False)]
    points = records.points(rows, n="n_total", d="tokens")
    assert len(points.n) == 21 and points.annealed.all() and (points.unit_n, points.unit_d) == ("n_total", "tokens")
    assert points.n[0] == rows[0]["n_total"] and points.d[1] == rows[1]["tokens"]
    assert set(points.group[:3]) == {"w32d2-0"} and len(set(points.group)) == 7, "a branch belongs to its run"
    assert len(records.points(rows, annealed=None).n) == 22
    assert records.points(rows, annealed=False).n.tolist() == [196608]


def test_points_refuse_what_does_not_belong_together():
    with pytest.raises(InputError, match="flops_version"):
        records.points([full(), full(id="b", flops_version=2)], d="flops")
    with pytest.raises(InputError, match="'model' is not a numeric field"):
        records.points([full()], n="model")
    with pytest.raises(InputError, match="'a' has no 'val_loss_raw'"):
        records.points([full()], loss="val_loss_raw")
    with pytest.raises(InputError, match="none of 1 records"):
        records.points([full()], annealed=False)
    notes = records.points([full(), full(id="b", device="gpu", ema_horizon=0.1, cooldown_fraction=0.1)]).notes
    assert [note.split()[0] for note in notes] == ["ema_horizon", "device", "cooldown_fraction"]


def test_holding_out_takes_the_whole_run():
    kept, held = records.hold_out_largest(sweep(branches=3))
    assert {r["model"] for r in held} == {"w256d8"} and len(held) == 3 and len(kept) == 18
    rows = sweep(branches=3)
    rows[7]["flops"] *= 100
    _, held = records.hold_out_largest(rows, by="flops")
    assert {r["id"] for r in held} == {"w64d4-0", "w64d4-1", "w64d4-2"}, "branches share the noise of their run"


def test_groups_follow_branches_of_branches():
    rows = [full(), full(id="b", branch_of="a"), full(id="c", branch_of="b"), full(id="d", branch_of="gone")]
    assert records.groups(rows) == {"a": "a", "b": "a", "c": "a", "d": "gone"}
    with pytest.raises(InputError, match="descends from itself"):
        records.groups([full(branch_of="b"), full(id="b", branch_of="a")])


def test_seed_noise():
    sigma = 0.01
    rng = np.random.default_rng(0)
    rows = [full(id=f"{w}-{s}", model=str(w), n_core=w, seed=s, val_loss=float(np.exp(sigma * rng.normal() + w)))
            for w in (1, 2, 3) for s in range(100)]
    found, freedom = records.seed_noise(rows)
    assert freedom == 297 and found == pytest.approx(sigma, rel=0.1)
    assert records.seed_noise([full()])[1] == 0
