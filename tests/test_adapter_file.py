"""Adapters as files: diffusers' names and ours change the same kernels by the same, and nothing is taken in silence."""
import jax
import numpy as np
import pytest
from flax import nnx, traverse_util
from safetensors import numpy as safetensors

from configs import smoke
from sora_jax import adapted, adapter_file, build, lora, rows, weights
from sora_jax.types import ConfigError, InputError

EXACT = 1e-6
TARGETS = ("qkv", "out", "cross_*", "up", "head")
RANK, ALPHA = 2, 3.0


@pytest.fixture(scope="module")
def made():
    """(config, adapters of noise)."""
    config = smoke.get_config("dit")
    config.lora.rank, config.lora.alpha, config.lora.targets = RANK, ALPHA, TARGETS
    shapes = traverse_util.flatten_dict(
        nnx.to_pure_dict(nnx.split(nnx.eval_shape(lambda: build.learner(config)))[1]))
    rng = np.random.default_rng(0)
    noise = {path: rng.normal(size=leaf.shape).astype(np.float32) for path, leaf in shapes.items() if "adapter" in path}
    return config, traverse_util.unflatten_dict(noise)


def changes(adapters, scale):
    return {path: lora.change(adapter, scale) for path, adapter in lora.by_layer(adapters).items()}


def test_a_file_of_diffusers_changes_every_kernel_as_ours_does(made, tmp_path):
    config, adapters = made
    path = tmp_path / "lora.safetensors"
    count = adapter_file.write(path, adapters, config)
    tensors = safetensors.load_file(path)
    width, depth = config.model.width, config.model.depth
    assert count == len(tensors) == 2 * (depth * (3 + 1 + 4 + 1) + 1)
    assert tensors["transformer.blocks.1.attn1.to_q.lora_A.weight"].shape == (RANK, width)
    assert tensors["transformer.blocks.0.ffn.net.0.proj.lora_B.weight"].shape == (4 * width, RANK)
    ours = changes(adapters, adapted.scale(config))
    kernels = {f"{'/'.join(layer)}/kernel": change for layer, change in ours.items()}
    parts = [row for found in adapter_file.table(config).values() for row in found if row.own in kernels]
    for name, change in rows.scatter(parts, kernels).items():
        base = f"transformer.{name.removesuffix('.weight')}"
        theirs = tensors[f"{base}.lora_B.weight"] @ tensors[f"{base}.lora_A.weight"]
        np.testing.assert_allclose(theirs, change, atol=10 * EXACT)


def test_what_is_written_is_read(made, tmp_path):
    config, adapters = made
    adapter_file.write(tmp_path / "theirs.safetensors", adapters, config)
    header = {"config": {"lora": {"rank": RANK, "alpha": ALPHA}}}
    weights.save_weights(tmp_path / "ours.safetensors", adapters, header)
    want = changes(adapters, ALPHA / RANK)
    for name in ("theirs", "ours"):
        found, scale = adapter_file.read(tmp_path / f"{name}.safetensors", config)
        assert {pair["a"].shape[-1] for pair in lora.by_layer(found).values()} == {RANK}
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=EXACT), changes(found, scale), want)


def test_parts_with_factors_of_their_own_become_one_adapter(made, tmp_path):
    config, rng = made[0], np.random.default_rng(1)
    width, ranks, tensors = config.model.width, {"q": 1, "k": 2, "v": 3}, {}
    for i in range(config.model.depth):
        for part, rank in ranks.items():
            name = f"transformer.blocks.{i}.attn1.to_{part}.lora_"
            tensors[f"{name}A.weight"] = rng.normal(size=(rank, width)).astype(np.float32)
            tensors[f"{name}B.weight"] = rng.normal(size=(width, rank)).astype(np.float32)
    safetensors.save_file(tensors, tmp_path / "foreign.safetensors")
    found, scale = adapter_file.read(tmp_path / "foreign.safetensors", config)
    value = lora.change(lora.by_layer(found)["blocks", "qkv"], scale)[..., 2 * width:]
    for i in range(config.model.depth):
        name = f"transformer.blocks.{i}.attn1.to_v.lora_"
        np.testing.assert_allclose(value[i], (tensors[f"{name}B.weight"] @ tensors[f"{name}A.weight"]).T, atol=EXACT)


@pytest.mark.parametrize("change, words", [
    (lambda t: t.pop("transformer.blocks.1.attn1.to_k.lora_B.weight"), "attn1.to_k.lora_B.weight is missing"),
    (lambda t: t.update({"transformer.blocks.0.attn9.lora_A.weight": np.ones((2, 2), np.float32)}), "attn9.* no layer"),
    (lambda t: t.update({"transformer.proj_out.lora_A.weight": np.ones((2, 3), np.float32)}), "head change a kernel"),
    (lambda t: t.clear(), "holds no adapter"),
])
def test_a_file_that_does_not_fit_is_refused(made, tmp_path, change, words):
    config, adapters = made
    adapter_file.write(tmp_path / "lora.safetensors", adapters, config)
    tensors = safetensors.load_file(tmp_path / "lora.safetensors")
    change(tensors)
    safetensors.save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=words):
        adapter_file.read(tmp_path / "other.safetensors", config)


def test_layers_that_are_not_there_are_refused(made, tmp_path):
    config, adapters = made
    text = {"text": {"layers": {"up": {"adapter": adapters["head"]["adapter"]}}}}
    with pytest.raises(InputError, match="text/layers/up has no name in diffusers' WanTransformer3DModel"):
        adapter_file.write(tmp_path / "no.safetensors", text, config)
    with pytest.raises(ConfigError, match=r"the adapter of head changes a kernel of \(16, 16\); the model has none"):
        lora.merge({"tail": {"kernel": np.ones((16, 16))}}, {"head": adapters["head"]}, 1.0)
