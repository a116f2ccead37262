"""Every config there is builds without allocating anything: the files of configs/ and the runs of every experiment."""
import importlib
import json
from pathlib import Path

import jax
import pytest

from configs import ladder, vae
from sora_jax import build, costs, validation, weights
from sora_jax.scaling import identity, records

ROOT = Path(__file__).resolve().parents[1]
ARGUMENTS = {"dit": tuple(ladder.SIZES), "smoke": ("vae", "dit"),
             "vae": (None, *vae.SIZES, "1x4x8", "0.2M-8x16x32")}
NOT_RUNS = ("__init__", "ladder")
WITHIN = 0.03  # the published counts include a table of class labels


def files():
    for path in sorted((ROOT / "configs").glob("*.py")):
        if path.stem not in NOT_RUNS:
            module = importlib.import_module(f"configs.{path.stem}")
            for argument in ARGUMENTS.get(path.stem, (None,)):
                yield f"{path.stem}:{argument}", module.get_config(*([argument] if argument else []))


def sweeps():
    for path in sorted((ROOT / "experiments").glob("*/sweep.py")):
        module = importlib.import_module(f"experiments.{path.parent.name}.sweep")
        yield path.parent.name, list(module.runs())


CONFIGS = dict(files()) | {f"{name}/{config.name}": config for name, runs in sweeps() for config in runs}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_builds_abstractly(name):
    config = CONFIGS[name]
    validation.validate(config, here=False)
    _, shapes = build.graph(config)
    leaves = jax.tree.leaves(shapes)
    assert leaves and all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves), "something was allocated"
    counts, budget = build.param_counts(config), costs.budget(config)
    assert sum(counts.values()) == sum(leaf.size for leaf in leaves) == budget.n_total
    assert budget.flops == 3 * sum(build.forward_flops(config).values()) * config.train.clips
    assert str(config.train.clips) in budget.table().replace(",", "") and build.steps(config) >= 1
    build.objective(config), build.sampler(config), build.ema(config)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_survives_json(name):
    config = CONFIGS[name]
    again = build.from_json(build.to_json(config))
    assert again.to_dict() == config.to_dict() and build.to_json(again) == build.to_json(config)
    assert identity.run_id(again.to_dict()) == identity.run_id(config.to_dict())
    assert build.graph(again)[1] == build.graph(config)[1]


@pytest.mark.parametrize("name, runs", list(sweeps()))
def test_the_runs_of_an_experiment_are_different_and_the_same_each_time(name, runs):
    names, ids = [config.name for config in runs], [identity.run_id(config.to_dict()) for config in runs]
    assert runs and len(set(names)) == len(set(ids)) == len(runs)
    again = importlib.import_module(f"experiments.{name}.sweep").runs()
    assert [config.to_dict() for config in again] == [config.to_dict() for config in runs]


def test_a_run_is_named_by_its_fields():
    made = {name: identity.run_id(config.to_dict()) for name, config in files()}
    assert len(set(made.values())) == len(made)
    config, other = CONFIGS["dit:w64d4"], CONFIGS["dit:w64d4"].copy_and_resolve_references()
    other.unlock()
    other.seed = 1
    assert identity.run_id(other.to_dict()) != identity.run_id(config.to_dict())


def test_the_ladder_is_a_ladder():
    rows = list(ladder.SIZES.values())
    small = [row for name, row in ladder.SIZES.items() if name.startswith("w")]
    cores = [build.param_counts(CONFIGS[f"dit:{name}"])["n_core"] for name in ladder.SIZES]
    assert cores == sorted(cores) and {(row.lr, row.muon > 0) for row in small} == {(3e-3, True)}
    assert all(f"w{row.width}d{row.depth}" in ladder.SIZES for row in small)
    rules = [CONFIGS[f"dit:{name}"].optimizer for name in ladder.SIZES]
    assert [(rule.lr, rule.muon) for rule in rules] == [(row.lr, row.muon) for row in rows]
    assert all(row.width % row.heads == 0 for row in rows)
    with pytest.raises(ValueError, match="no size 'w1'; the ladder has w32d2"):
        ladder.resize(CONFIGS["base:None"].copy_and_resolve_references(), "w1")


@pytest.mark.parametrize("size, millions", [("S", 33), ("B", 130), ("L", 458), ("XL", 675)])
def test_the_published_shapes_have_the_published_size(size, millions):
    """Peebles & Xie 2023, table 1: without our text encoder, its cross-attention and the VAE's patch."""
    counts, row = build.param_counts(CONFIGS[f"dit:{size}"]), ladder.SIZES[size]
    cross = 2 * row.depth * row.width * (row.width + CONFIGS[f"dit:{size}"].text.width)
    plain = counts["n_core"] - cross + counts["adaln"]
    assert abs(plain / (millions * 1e6) - 1) < WITHIN, (plain, counts)


def published():
    for table in sorted((ROOT / "experiments").glob("*/runs.jsonl")):
        configs = dict(sweeps())[table.parent.name]
        headers = [weights.load_weights(path)[1] for path in table.parent.rglob("*.safetensors")]
        configs += [build.from_json(json.dumps(header["config"])) for header in headers]
        known = {identity.run_id(config.to_dict()): config for config in configs}
        yield table.parent.name, known, records.read(table)


@pytest.mark.parametrize("name, known, found", list(published()))
def test_published_records_are_of_the_configs_beside_them(name, known, found):
    """The sweep, or the header of the weights, is the config of every record; counts and FLOPs follow from it."""
    assert found
    for record in found:
        assert record["config_hash"] in known, f"{record['id']} is of no config of {name}"
        config = known[record["config_hash"]]
        assert record["n_total"] == sum(build.param_counts(config).values())
        assert record["flops"] == 3 * sum(build.forward_flops(config).values()) * record["clips"]
        assert record["clips"] == record["steps"] * record["batch"] and record["lr"] == config.optimizer.lr
        assert config.stage == "vae" or record["tokens_per_clip"] == build.tokens_per_clip(config)
