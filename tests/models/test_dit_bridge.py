"""Published layouts of diffusion transformers against stored answers of diffusers, and what may be exported."""
import dit_cases
import jax
import numpy as np
import pytest
from flax import nnx
from safetensors import numpy as safetensors

from configs import dit_image
from sora_jax import bridge, build
from sora_jax.models import dit
from sora_jax.types import ConfigError, InputError

PARITY = 1e-4
every = pytest.mark.parametrize("name", dit_cases.CASES)


@every
def test_ours_says_what_diffusers_says(name):
    said, stored = dit_cases.said(name), dit_cases.reference(name)
    assert set(said) == set(stored)
    for key in stored:
        found = dit_cases.largest(said[key], stored[key])
        print(name, key, f"{found:.1e}")
        assert found <= PARITY


@every
def test_what_goes_out_comes_in_the_same(name, tmp_path):
    model, config = dit_cases.ours(name)
    layout = dit_cases.LAYOUTS[name.partition(",")[0]][0]
    fields = bridge.layout(layout).from_run(config.to_dict())
    bridge.write_folder(tmp_path, layout, fields, nnx.to_pure_dict(nnx.state(model)))
    again = safetensors.load((tmp_path / dit_cases.WEIGHTS).read_bytes())
    assert {key: x.shape for key, x in again.items()} == dit_cases.shapes(name)
    for key, x in again.items():
        np.testing.assert_array_equal(x, dit_cases.weight(key, x.shape))
    assert layout == bridge.recognised(tmp_path).NAME


def test_copies_that_differ_are_refused(tmp_path):
    name = "dit, patch 2, variance"
    dit_cases.write(name, tmp_path, dit_cases.shapes(name))
    flat = safetensors.load((tmp_path / dit_cases.WEIGHTS).read_bytes())
    odd = "transformer_blocks.2.norm1.emb.timestep_embedder.linear_2.bias"
    flat[odd] = flat[odd] + 1
    (tmp_path / dit_cases.WEIGHTS).write_bytes(safetensors.save(flat))
    opened = bridge.open_folder(tmp_path, "diffusers-dit", dit_image.get_config())
    with pytest.raises(InputError, match=f"{odd} is not transformer_blocks.0"):
        bridge.params(opened)


@pytest.mark.parametrize("layout, change, message", [
    ("diffusers-dit", {"text": {"name": "text"}}, "text.name='text'"),
    ("diffusers-dit", {"model": {"qk_norm": "head"}}, "model.qk_norm='head'"),
    ("diffusers-dit", {"model": {"patch": (2, 2, 2)}}, "model.patch"),
    ("diffusers-wan-dit", {}, "text.name='labels'")])
def test_a_run_that_a_layout_cannot_say_is_refused(layout, change, message):
    config = dit_image.get_config()
    config.model.time_ends = True
    for part, fields in change.items():
        config[part].update(fields)
    with pytest.raises(InputError, match=message):
        bridge.layout(layout).from_run(config.to_dict())


@pytest.mark.parametrize("name, gflops", [("S/2", 6.06), ("B/4", 5.56), ("L/8", 5.01), ("XL/2", 118.64)])
def test_the_presets_cost_what_the_paper_says(name, gflops):
    """Peebles and Xie 2023, table 4, in multiply-adds."""
    config = dit_image.get_config(name)
    forward = dit.flops(*build.model_config(config), build.tokens_per_clip(config), levels=1)
    assert sum(forward.values()) / 2e9 == pytest.approx(gflops, rel=0.01)


def test_published_sizes_have_the_published_parameters():
    counts = build.param_counts(dit_image.get_config("XL/2"))
    assert sum(counts.values()) == pytest.approx(675e6, rel=0.005)


@pytest.mark.parametrize("name", ["M/2", "XL/3", "XL"])
def test_another_size_is_refused(name):
    with pytest.raises((ConfigError, ValueError), match="no DiT-"):
        dit_image.get_config(name)


def test_the_original_state_is_the_same_function_but_for_the_times_it_is_told(tmp_path):
    """The weights that diffusers spreads over blocks, in the names of the original; positions are not read."""
    name = "dit, patch 2, variance"
    model, config = dit_cases.ours(name)
    config = config.copy_and_resolve_references()
    config.model.time_ends = False
    params = nnx.to_pure_dict(nnx.state(model))
    fields = bridge.layout("original-dit").from_run(config.to_dict())
    bridge.write_folder(tmp_path, "original-dit", fields, params)
    path = tmp_path / "model.safetensors"
    flat = safetensors.load(path.read_bytes())
    assert len(flat) == 11 + 10 * config.model.depth and "blocks.0.attn.qkv.weight" in flat
    path.write_bytes(safetensors.save({**flat, "pos_embed": np.zeros((1, 16, 48), np.float32)}))
    opened = bridge.open_folder(tmp_path, "original-dit", dit_image.get_config())
    assert not opened.config.model.time_ends and opened.config.model.time_shift == -1
    again = bridge.params(opened)
    assert jax.tree.all(jax.tree.map(np.array_equal, again, params))
    with pytest.raises(InputError, match="model.time_ends=True: original-dit can say False only"):
        bridge.layout("original-dit").from_run(dit_cases.ours(name)[1].to_dict())
