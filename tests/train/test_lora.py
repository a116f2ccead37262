"""Adapters of low rank: they begin as nothing, are trained alone, and merged weights compute what adapted ones do."""
import json

import fabricated
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx, traverse_util

from configs import smoke
from sora_jax import adapted as parts
from sora_jax import build, checkpoint, costs, lora, validation, weights
from sora_jax import mesh as meshes
from sora_jax.scaling import identity
from sora_jax.train import loop, program, recording, state
from sora_jax.types import ConfigError

TARGETS = ("qkv", "cross_*", "text/layers/up", "head")
MERGED, BACK, EQUAL = 1e-5, 1e-6, 1e-6
RANK, ALPHA = 2, 3.0


def noisy(targets=TARGETS):
    """A tiny model with adapters that change something: (graph, adapters, frozen, graph without adapters)."""
    plain = nnx.split(tiny.model())
    model = lora.attach(nnx.merge(*plain), targets, RANK, ALPHA, nnx.Rngs(3))
    graph, params = nnx.split(model)
    trained, frozen = (nnx.to_pure_dict(part) for part in state.parted(params))
    rng = np.random.default_rng(2)
    trained = jax.tree.map(lambda leaf: jnp.asarray(0.2 * rng.normal(size=leaf.shape), jnp.float32), trained)
    return graph, trained, frozen, plain[0]


def test_fresh_adapters_change_nothing_and_others_are_as_their_merged_weights():
    graph, trained, frozen, plain = noisy()
    given = tiny.inputs(tiny.batch())

    def outputs(graph, params):
        return jax.jit(lambda params: nnx.merge(graph, nnx.State(params))(*given),
                       compiler_options=tiny.AS_USERS)(params)

    before = outputs(plain, frozen)
    still = jax.tree_util.tree_map_with_path(lambda path, x: 0 * x if path[-1].key == "b" else x, trained)
    np.testing.assert_allclose(outputs(graph, state.joined(still, frozen)), before, atol=EQUAL)
    merged = lora.merge(frozen, trained, ALPHA / RANK)
    adapted = outputs(graph, state.joined(trained, frozen))
    scale = float(jnp.abs(adapted).max())
    np.testing.assert_allclose(outputs(plain, merged) / scale, adapted / scale, atol=MERGED)
    assert float(jnp.abs(adapted - before).max()) > 0.1
    back = lora.merge(merged, trained, -ALPHA / RANK)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=BACK), back, nnx.restore_int_paths(frozen))


def test_targets_are_layers_or_patterns_of_them():
    known = lora.layers(tiny.fresh())
    assert lora.targeted(known, ("cross_*", "head"), 2) == ["cross_kv", "cross_out", "cross_q", "head"]
    with pytest.raises(ConfigError, match="'qvk', which is no layer; there are .*cross_kv, .*qkv, .*text/layers/up"):
        lora.targeted(known, ("out", "qvk"), 2)
    with pytest.raises(ConfigError, match="lora.rank=13 for the layer 'head', whose kernel has rank 12; give 1 to 12"):
        lora.targeted(known, ("qkv", "head"), 13)
    assert lora.targeted(known, ("head",), 12)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Weights as a run leaves them, of noise, and the config of adapters beside them."""
    folder = tmp_path_factory.mktemp("lora")
    config = smoke.get_config("dit")
    config.data.path = str(fabricated.latents(folder / "latents"))
    rng = np.random.default_rng(0)
    noise = jax.tree.map(lambda leaf: 0.1 * rng.normal(size=leaf.shape).astype(np.float32), build.graph(config)[1])
    header = {"config": json.loads(build.to_json(config)), "vae_hash": fabricated.HASH, "id": "noise"}
    weights.save_weights(folder / "base" / "weights.safetensors", noise, header)
    config.train.clips, config.train.branches, config.eval.clips, config.eval.times = 32, (), 4, 1
    config.optimizer.cooldown, config.optimizer.lr, config.optimizer.warmup = 0.5, 0.05, 0.0
    config.name, config.train.start = "adapted", str(folder / "base")
    config.lora.rank, config.lora.targets = RANK, TARGETS
    return folder, config


@pytest.fixture(scope="module")
def adapted(base):
    """Folder and record of the adapted run."""
    folder, config = base
    return folder / "adapted", loop.run(config, folder / "adapted")[-1]


def test_a_run_of_adapters_leaves_merged_weights_and_says_what_it_trained(base, adapted):
    (root, config), (folder, record) = base, adapted
    run, old = checkpoint.load_for_inspection(folder), checkpoint.load_for_inspection(root / "base")
    adapters, meta = weights.load_weights(folder / "adapters.safetensors")
    count = sum(leaf.size for leaf in jax.tree.leaves(adapters))
    assert record["metrics"]["lora_rank"] == RANK and record["metrics"]["trained"] == count < record["n_total"] / 4
    assert record["started_from"] == "noise"
    assert record["n_total"] == sum(leaf.size for leaf in jax.tree.leaves(run.params))
    assert run.meta["id"] == meta["id"] == record["id"]
    merged = lora.merge(old.params, adapters, parts.scale(config))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=EQUAL), merged, run.params)
    flat, before = (traverse_util.flatten_dict(tree, sep="/") for tree in (run.params, old.params))
    moved = {name for name in flat if not np.array_equal(flat[name], before[name])}
    assert moved == {*(f"blocks/{name}/kernel" for name in ("qkv", "cross_q", "cross_kv", "cross_out")),
                     "text/layers/up/kernel", "head/kernel"}


def test_checkpoints_hold_adapters_alone_and_a_resumed_run_is_the_same(base, adapted):
    (root, config), (_, record) = base, adapted
    stops = loop.planned(config)
    job = loop.Job(config, root / "resumed")
    recording.describe(config, root / "resumed")
    with job.writer:
        job.advance(None, "checkpoints", stops[-1].start // 2, None)
    started, before = (checkpoint.load_for_inspection(root / name).params for name in ("resumed", "base"))
    assert np.array_equal(started["text"]["bytes"], before["text"]["bytes"])
    assert not np.array_equal(started["head"]["kernel"], before["head"]["kernel"])
    held = job.abstract()
    assert all("adapter" in jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(held.params))
    assert loop.run(config, root / "resumed")[-1]["val_loss"] == record["val_loss"]
    first, second = (weights.load_weights(root / name / "adapters.safetensors")[1]["hash"]
                     for name in ("adapted", "resumed"))
    assert first == second


def test_the_plan_counts_what_is_trained(base):
    _, config = base
    plan, count = costs.budget(config), parts.count(config)
    assert plan.adapted == count and f"{count:,}" in plan.table()
    mesh = build.mesh(config)
    _, tx, _, _, frozen = program.program(config, mesh)
    current = jax.eval_shape(lambda: state.draw(lambda: build.learner(config, 0), tx))
    size = {name: sum(4 * leaf.size for leaf in jax.tree.leaves(getattr(current, name))) for name in ("params", "ema")}
    moments = sum(4 * leaf.size for leaf in jax.tree.leaves(current.opt) if leaf.ndim > 1)
    held = plan.bytes_per_device
    assert (held["gradients"], held["ema"], held["moments"]) == (size["params"], size["ema"], moments)
    assert held["weights"] == size["params"] + 4 * plan.n_total and len(jax.tree.leaves(frozen)) > 10


def test_configs_from_before_have_the_ids_they_had(base):
    _, config = base
    plain = smoke.get_config("dit").to_dict()
    old = {name: value for name, value in plain.items() if name != "lora"}
    assert identity.run_id(old) == identity.run_id(plain) != identity.run_id(config.to_dict())
    assert build.lora_rank(build.from_json(json.dumps(old))) == 0


@pytest.mark.parametrize("changes, words", [
    ({"train.start": ""}, "lora.rank=2 without train.start"),
    ({"lora.alpha": 0.0}, "lora.alpha=0.0 must be positive"),
    ({"lora.targets": ()}, "'', which is no layer"),
    ({"optimizer.widths": "mup"}, "optimizer.widths='mup' has no rule"),
    ({"lora.rank": 99}, "lora.rank=99 for the layer"), ({"lora.rank": -1}, "lora.rank=-1"),
])
def test_adapters_that_cannot_be_are_refused(base, changes, words):
    config = base[1].copy_and_resolve_references()
    with config.unlocked():
        config.update_from_flattened_dict(changes)
    with pytest.raises(ConfigError, match=words):
        validation.validate(config)


def test_adapters_lie_as_their_layers_do(base):
    _, config = base
    wide = meshes.make(data=1, fsdp=2, tensor=2, devices=jax.devices()[:4])
    laid = program.program(config, wide).shardings.params["blocks"]["qkv"]["adapter"]
    assert tuple(laid["a"].spec) == (None, "fsdp", None) and tuple(laid["b"].spec) == (None, None, "tensor")
