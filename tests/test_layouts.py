"""Every layout of an encoder accounts for every key, layer by layer, and refuses what it cannot be."""
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors import numpy as safetensors

from sora_jax import bridge, registry, rows, weights
from sora_jax.types import InputError

ROOT = Path(__file__).resolve().parents[1]
SMALL = {
    "vit": ("transformers-vit", {"name": "vit", "image": (8, 12), "patch": (4, 4), "channels": 3, "width": 8,
                                 "depth": 2, "heads": 2, "hidden": 12, "epsilon": 1e-12, "classes": 3,
                                 "pooler": False}),
    "vit, pooler": ("transformers-vit", {"name": "vit", "image": (8, 8), "patch": (4, 4), "channels": 1, "width": 8,
                                         "depth": 2, "heads": 2, "hidden": 12, "epsilon": 1e-6, "classes": 0,
                                         "pooler": True}),
    "t5": ("transformers-t5", {"name": "t5", "vocab": 9, "width": 8, "depth": 2, "heads": 2, "head": 3, "hidden": 12,
                               "buckets": 8, "distance": 20, "epsilon": 1e-6, "every": False}),
    "clip": ("transformers-clip-text", {"name": "clip_text", "vocab": 9, "width": 8, "depth": 2, "heads": 2,
                                        "hidden": 12, "length": 5, "activation": "gelu", "epsilon": 1e-5, "eos": 8,
                                        "projection": 6}),
}
SMALL["umt5"] = ("transformers-t5", {**SMALL["t5"][1], "every": True})
SMALL["clip, old"] = ("transformers-clip-text", {**SMALL["clip"][1], "eos": -1, "projection": 0})


@functools.lru_cache
def drawn(name):
    """(layout, fields, weights) of a small encoder."""
    kind, fields = SMALL[name]
    shapes = nnx.to_pure_dict(nnx.state(bridge._abstract(fields)))
    rng = np.random.default_rng(0)
    return kind, fields, jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


@pytest.fixture
def folder(tmp_path, request):
    """A written encoder, of the name that a test gives."""
    kind, fields, params = drawn(request.param)
    bridge.write_folder(tmp_path / "foreign", kind, fields, params)
    return tmp_path / "foreign"


def changed(folder, file, change):
    """Rewrites the config or the weights of a folder."""
    path = folder / file
    if file == bridge.CONFIG:
        given = json.loads(path.read_text())
        change(given)
        path.write_text(json.dumps(given))
    else:
        flat = safetensors.load(path.read_bytes())
        change(flat)
        path.write_bytes(safetensors.save(flat))


@pytest.mark.parametrize("folder, name", [(name, name) for name in SMALL], indirect=["folder"])
def test_what_goes_out_comes_in_the_same(folder, name):
    kind, fields, params = drawn(name)
    assert kind == bridge.recognised(folder).NAME
    opened = bridge.open_folder(folder, kind)
    assert opened.fields == fields
    again, want = (weights.named_leaves(tree) for tree in (bridge.params(opened), params))
    assert set(again) == set(want) and all((again[path] == want[path]).all() for path in want)
    stored = safetensors.load((folder / "model.safetensors").read_bytes())
    assert set(stored) == set(opened.shapes) and sum(x.size for x in stored.values()) == sum(
        x.size for x in want.values())


@pytest.mark.parametrize("name", ["vit", "t5", "clip_text"])
def test_the_published_sizes_have_their_rows(name):
    module = registry.load("models", name)
    kind = next(kind for kind in bridge.layouts().values() if name == kind.MODEL)
    fields = {"name": name, **vars(module.Config())}
    made = nnx.eval_shape(lambda: module.build(module.Config(), rngs=nnx.Rngs(0)))
    shapes = {path: leaf.shape for path, leaf in weights.named_leaves(nnx.to_pure_dict(nnx.state(made))).items()}
    table = kind.table(fields)
    rows.audit(table, shapes)
    assert all(rows.shape(shapes[row.own], row) for row in table)


FILE = "model.safetensors"
REFUSED = [
    ("vit", FILE, lambda flat: flat.pop("vit.encoder.layer.1.attention.attention.key.bias"),
     "vit.encoder.layer.1.attention.attention.key.bias is missing"),
    ("vit", FILE, lambda flat: flat.update({"vit.encoder.layer.2.output.dense.bias": np.zeros(8, np.float32)}),
     "vit.encoder.layer.2.output.dense.bias is no weight of this ViTModel"),
    ("vit", FILE, lambda flat: flat.update({"vit.encoder.layer.1.output.dense.bias": np.zeros(9, np.float32)}),
     r"vit.encoder.layer.1.output.dense.bias is \(9,\), its config.json asks for \(8,\)"),
    ("vit", FILE, lambda flat: flat.update({"vit.mask_token": np.zeros(9, np.float32)}), "vit.mask_token is no"),
    ("vit, pooler", FILE, lambda flat: flat.pop("pooler.dense.bias"), "pooler.dense.bias is missing"),
    ("umt5", FILE, lambda flat: flat.pop("encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"),
     "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight is missing"),
    ("t5", FILE, lambda flat: flat.pop("shared.weight"), "shared.weight is missing"),
    ("clip", FILE, lambda flat: flat.update({"embeddings.token_embedding.weight": np.zeros((9, 8), np.float32)}),
     "embeddings.token_embedding.weight is there twice"),
    ("t5", bridge.CONFIG, lambda given: given.update(feed_forward_proj="relu"), "feed_forward_proj='relu' is another"),
    ("t5", bridge.CONFIG, lambda given: given.pop("feed_forward_proj"), "feed_forward_proj is missing"),
    ("t5", bridge.CONFIG, lambda given: given.update(model_type="mt5"), "model_type='mt5' is of another layout"),
    ("t5", bridge.CONFIG, lambda given: given.update(relative_attention_num_buckets=6), "config.json: buckets=6"),
    ("vit", bridge.CONFIG, lambda given: given.update(hidden_act="relu"), "hidden_act='relu' is of another layout"),
    ("vit", bridge.CONFIG, lambda given: given.update(patch_size=5), "config.json: patch=.5, 5. does not divide"),
    ("vit", bridge.CONFIG, lambda given: given.update(num_attention_heads=0), "is not a multiple of heads=0"),
    ("vit", bridge.CONFIG, lambda given: given.update(hidden_size="x"), "is no config of ViTModel"),
    ("clip", bridge.CONFIG, lambda given: given.update(eos_token_id=None), "is no config of CLIPTextModel"),
    ("clip", bridge.CONFIG, lambda given: given.update(hidden_act="relu"), "config.json: activation='relu'"),
]


@pytest.mark.parametrize("folder, name, file, change, words", [(name, *rest) for name, *rest in
                                                               [(case[0], *case) for case in REFUSED]],
                         indirect=["folder"])
def test_what_does_not_fit_is_named(folder, name, file, change, words):
    changed(folder, file, change)
    with pytest.raises(InputError, match=words) as caught:
        bridge.open_folder(folder, SMALL[name][0])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("folder", ["t5"], indirect=True)
def test_the_embedding_of_t5_has_two_names(folder):
    want = drawn("t5")[2]["tokens"]
    tied = "encoder.embed_tokens.weight"
    changed(folder, FILE, lambda flat: flat.update({tied: flat["shared.weight"]}))
    np.testing.assert_array_equal(bridge.load(folder).tokens[...], want)
    changed(folder, FILE, lambda flat: flat.pop("shared.weight"))
    np.testing.assert_array_equal(bridge.load(folder).tokens[...], want)


@pytest.mark.parametrize("folder", ["t5"], indirect=True)
def test_halves_of_precision_are_read(folder):
    changed(folder, FILE, lambda flat: flat.update({name: x.astype(jnp.bfloat16) for name, x in flat.items()}))
    found, want = bridge.load(folder).tokens[...], drawn("t5")[2]["tokens"]
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, want.astype(jnp.bfloat16).astype(np.float32))


@pytest.mark.parametrize("folder", ["vit"], indirect=True)
def test_the_doors_lead_in_and_out(folder, tmp_path):
    def door(*arguments):
        done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, cwd=ROOT, check=False,
                              env={**os.environ, "JAX_PLATFORMS": "cpu"})
        return done.returncode, done.stdout, done.stderr

    code, out, _ = door("launch.import_weights", "--from=transformers-vit", f"--dir={folder}", "--dry-run")
    lines = [line.split("  ") for line in out.splitlines()]
    assert code == 0 and ["vit.encoder.layer.{i}.output.dense.bias", "×2"] in [line[0].split(" ") for line in lines]
    assert any("blocks/qkv/kernel[2/3]" in line for line in out.splitlines())
    own = tmp_path / "own"
    assert door("launch.import_weights", "--from=transformers-vit", f"--dir={folder}", f"--out={own}")[0] == 0
    assert bridge.load(own).config == bridge.load(folder).config
    assert door("launch.export_weights", "--to=transformers-vit", f"--run={own}", f"--out={tmp_path / 'back'}")[0] == 0
    for file in (bridge.CONFIG, FILE):
        assert (tmp_path / "back" / file).read_bytes() == (folder / file).read_bytes()
    code, _, errors = door("launch.export_weights", "--to=transformers-t5", f"--run={own}", f"--out={tmp_path / 'no'}")
    assert code == 2 and "a vit has no layout transformers-t5; only t5 has" in errors
