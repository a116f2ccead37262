"""transformers' encoders and ours, side by side; skipped where transformers is not installed."""
import json

import encoder_cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors import numpy as safetensors

from sora_jax import bridge

NEEDS = "needs torch and transformers: pip install -e '.[parity]'"
torch = pytest.importorskip("torch", reason=NEEDS)
transformers = pytest.importorskip("transformers", reason=NEEDS)

PARITY, SAME = 1e-4, 1e-5
LAYOUTS = {"vit": "transformers-vit", "t5": "transformers-t5", "umt5": "transformers-t5",
           "clip": "transformers-clip-text"}


@pytest.mark.parametrize("name", encoder_cases.CASES)
def test_the_reference_is_what_transformers_says(name, tmp_path):
    model, named = encoder_cases.foreign(name, tmp_path)
    assert named == encoder_cases.shapes(name)
    said, stored = encoder_cases.answers(model, name), encoder_cases.reference(name)
    assert set(said) == set(stored)
    assert max(encoder_cases.largest(said[key], stored[key]) for key in stored) <= SAME


@pytest.mark.parametrize("name", encoder_cases.CASES)
def test_what_is_exported_is_loaded_by_transformers(name, tmp_path):
    model = encoder_cases.ours(name)
    kind = LAYOUTS[name.partition(",")[0]]
    fields = {"name": bridge.layout(kind).MODEL, **vars(model.config)}
    bridge.write_folder(tmp_path, kind, fields, nnx.to_pure_dict(nnx.state(model)))
    said = encoder_cases.answers(encoder_cases.loaded(name, tmp_path), name)
    stored = encoder_cases.reference(name)
    assert max(encoder_cases.largest(said[key], stored[key]) for key in stored) <= SAME
    assert bridge.load(tmp_path).config == model.config


def test_the_whole_of_b16(tmp_path):
    """Twelve layers, a thousand classes."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    there = transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=1000)).eval()
    with torch.no_grad():
        for leaf in there.parameters():
            leaf.add_(0.02 * torch.randn_like(leaf))
    there.save_pretrained(tmp_path)
    here = bridge.load(tmp_path)
    x = encoder_cases.inputs("vit, two layers of B/16")["frames"]
    with torch.no_grad():
        want = there(torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))).logits.numpy()
    found = encoder_cases.largest(jax.jit(lambda model, x: model.logits(x))(here, jnp.asarray(x)), want)
    print(f"B/16 {found:.1e}")
    assert here.config.tokens == 197 and found <= PARITY


@pytest.mark.parametrize("title, config", [("T5Model", "T5Config"), ("UMT5Model", "UMT5Config")])
def test_a_whole_t5_is_read_for_its_encoder(title, config, tmp_path):
    given = {key: value for key, value in encoder_cases.CASES["t5"].given.items() if key != "model_type"}
    torch.manual_seed(0)
    there = getattr(transformers, title)(getattr(transformers, config)(**given)).eval()
    there.save_pretrained(tmp_path)
    given = encoder_cases.inputs("t5")
    with torch.no_grad():
        want = there.encoder(input_ids=torch.from_numpy(given["tokens"]).long(),
                             attention_mask=torch.from_numpy(given["mask"]).long()).last_hidden_state.numpy()
    found = encoder_cases.largest(bridge.load(tmp_path)(*map(jnp.asarray, given.values())), want)
    print(title, f"{found:.1e}")
    assert found <= PARITY


def test_a_whole_clip_is_read_for_its_text(tmp_path):
    """And files that hold the numbers of the positions, or names without `text_model.`."""
    text = {**encoder_cases.CASES["clip"].given, "eos_token_id": 2}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": 8, "patch_size": 4}
    torch.manual_seed(0)
    there = transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))
    there.eval().save_pretrained(tmp_path)
    given = encoder_cases.inputs("clip")
    with torch.no_grad():
        want = there.get_text_features(input_ids=torch.from_numpy(given["tokens"]).long(),
                                       attention_mask=torch.from_numpy(given["mask"]).long())
    want = getattr(want, "pooler_output", want).numpy()
    here = bridge.load(tmp_path)
    assert encoder_cases.largest(here.embedded(*map(jnp.asarray, given.values())), want) <= PARITY
    file = tmp_path / encoder_cases.WEIGHTS
    flat = safetensors.load(file.read_bytes())
    flat["text_model.embeddings.position_ids"] = np.arange(20)[None]
    file.write_bytes(safetensors.save(flat))
    bridge.load(tmp_path)
    bare = {name.removeprefix("text_model."): x for name, x in flat.items() if name.startswith("text_model.")}
    file.write_bytes(safetensors.save(bare))
    (tmp_path / encoder_cases.CONFIG).write_text(json.dumps({**text, "model_type": "clip_text_model"}))
    again = bridge.load(tmp_path)
    assert again.project is None
    np.testing.assert_array_equal(again.pooled(*map(jnp.asarray, given.values())),
                                  here.pooled(*map(jnp.asarray, given.values())))
