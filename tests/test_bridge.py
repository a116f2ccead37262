"""A foreign folder comes in whole or not at all, and goes out as it came."""
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from safetensors import numpy as safetensors

from configs import smoke, wan
from launch import door as doors
from sora_jax import bridge, build, pipeline, registry, weights
from sora_jax.layouts import wan_vae
from sora_jax.types import InputError

NAME = "diffusers-wan-vae"
ROOT = Path(__file__).resolve().parents[1]
FIELDS = {"name": "wan_vae", "weights": "", "patch": 1, "space": (2,), "time": (2,), "encoder": (4, 8),
          "decoder": (6, 12), "blocks": 1, "channels": 3}


@pytest.fixture
def config():
    made = wan.get_config()
    made.vae.update(FIELDS)
    return made


@pytest.fixture
def params(config):
    """Every weight drawn."""
    rng = np.random.default_rng(0)
    flat = weights.named_leaves(build.graph(config)[1])
    made = {name: rng.normal(size=leaf.shape).astype(np.float32) for name, leaf in flat.items()}
    return made | {"std": np.abs(made["std"]) + 0.1}


@pytest.fixture
def folder(tmp_path, config, params):
    """An exported folder."""
    bridge.write_folder(tmp_path / "foreign", NAME, config.vae.to_dict(), tree(params))
    return tmp_path / "foreign"


def tree(flat):
    made = {}
    for path, leaf in flat.items():
        *parents, name = (int(part) if part.isdigit() else part for part in path.split("/"))
        inner = made
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = leaf
    return made


def test_every_weight_has_one_row(config):
    for made in (config, wan.get_config()):
        own = [row.own for row in wan_vae.table(made.vae.to_dict())]
        named = set(weights.named_leaves(build.graph(made)[1]))
        assert len(own) == len(set(own)) and set(own) == named - {"mean", "std"}


def test_what_goes_out_comes_in_the_same(folder, config, params):
    opened = bridge.open_folder(folder, NAME, wan.get_config())
    assert {name: opened.config.vae[name] for name in FIELDS} == FIELDS
    again = weights.named_leaves(bridge.params(opened))
    assert set(again) == set(params) and all((again[name] == params[name]).all() for name in params)
    table = bridge.described(opened).splitlines()
    assert len(table) == len(params) - 2
    assert table[0].split() == ["encoder.conv_in.weight", "encoder/stem/weight", "conv3", "4×3×3×3×3"]


@pytest.mark.parametrize("change, words", [
    (lambda flat: flat.pop("encoder.conv_in.bias"), "encoder.conv_in.bias is missing"),
    (lambda flat: flat.update(extra=np.zeros(1)), "extra is no weight of this AutoencoderKLWan"),
    (lambda flat: flat.update({"quant_conv.bias": np.zeros(5)}), r"quant_conv.bias is \(5,\), its config.json asks"),
])
def test_a_key_that_does_not_fit_is_named(folder, change, words):
    path = folder / wan_vae.WEIGHTS
    flat = safetensors.load(path.read_bytes())
    change(flat)
    path.write_bytes(safetensors.save(flat))
    with pytest.raises(InputError, match=words) as caught:
        bridge.open_folder(folder, NAME, wan.get_config())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change, words", [
    ({"is_residual": True}, "is_residual=True is of another layout; diffusers-wan-vae has False"),
    ({"patch_size": 2}, "patch_size=2"),
    ({"attn_scales": [1.0]}, "attn_scales"), ({"dim_mult": [2, 4]}, "must begin with 1"),
    ({"_class_name": "AutoencoderKL"}, "_class_name='AutoencoderKL'"), ({"latents_mean": [0.0]}, "has 1 numbers"),
    ({"latents_mean": ["a"]}, "is no config of AutoencoderKLWan"), ({"dim_mult": []}, r"dim_mult=\[\] must begin"),
    ({"latents_std": [1.0, 0.0, 1.0]}, "must be positive"),
    ({"temperal_downsample": [True, True]}, "config.json: vae.encoder=.* need one width per stage"),
])
def test_a_config_of_another_layout_is_refused(folder, change, words):
    path = folder / bridge.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=words):
        bridge.open_folder(folder, NAME, wan.get_config())


def test_a_folder_that_is_none_is_refused(folder):
    (folder / wan_vae.WEIGHTS).write_bytes(b"not weights")
    with pytest.raises(InputError, match="not a readable safetensors file"):
        bridge.open_folder(folder, NAME, wan.get_config())
    for text, words in ((b"{", "not a readable config"), (b"\xff{}", "not a readable config"), (b"{}", "base_dim"),
                        (b"[]", "base_dim is missing"), (b"[1]", "no config of AutoencoderKLWan")):
        (folder / bridge.CONFIG).write_bytes(text)
        with pytest.raises(InputError, match=words):
            bridge.open_folder(folder, NAME, wan.get_config())


def test_what_the_layout_cannot_say_is_not_written(config, params, tmp_path):
    with pytest.raises(InputError, match="vae.name=video_vae has no layout"):
        wan_vae.from_run(smoke.get_config("vae").to_dict())
    with pytest.raises(InputError, match="a dit run is no autoencoder"):
        wan_vae.from_run(smoke.get_config("dit").to_dict())
    with pytest.raises(InputError, match="a video_vae has no layout"):
        bridge.write_folder(tmp_path / "out", NAME, smoke.get_config("vae").vae.to_dict(), {})
    config.vae.encoder = (4, 6)
    with pytest.raises(InputError, match=r"vae.encoder=\(4, 6\) is not a base width times"):
        bridge.write_folder(tmp_path / "out", NAME, config.vae.to_dict(), tree(params))
    assert not (tmp_path / "out").exists()


def contract(module):
    """What every layout has."""
    words = ("NAME", "TITLE", "WEIGHTS", "MODEL", "PRESET")
    assert module.__doc__ and all(isinstance(getattr(module, name), str) for name in words)
    assert module.MODEL in registry.names("models") and isinstance(module.FIXED, dict)
    functions = {"knows": ["given"], "read": ["given"], "constants": ["given"], "accepted": ["names"],
                 "table": ["fields"], "write": ["fields", "flat"]}
    functions |= {"to_run": ["fields"], "from_run": ["config"]} if module.PRESET else {}
    for name, arguments in functions.items():
        assert list(inspect.signature(getattr(module, name)).parameters) == arguments, name


def test_layouts_keep_their_contract():
    known = bridge.layouts()
    assert set(known) == set(doors.LAYOUTS)
    for module in known.values():
        contract(module)
    with pytest.raises(InputError, match="no layout 'diffusers-wan'; did you mean 'diffusers-wan-vae'"):
        bridge.layout("diffusers-wan")


def split(folder):
    """The weights of a folder in two files and an index."""
    whole = folder / wan_vae.WEIGHTS
    flat = safetensors.load(whole.read_bytes())
    halves = {"a.safetensors": sorted(flat)[::2], "b.safetensors": sorted(flat)[1::2]}
    for file, names in halves.items():
        (folder / file).write_bytes(safetensors.save({name: flat[name] for name in names}))
    index = {"weight_map": {name: file for file, names in halves.items() for name in names}}
    (folder / f"{wan_vae.WEIGHTS}.index.json").write_text(json.dumps(index))
    whole.unlink()
    return flat


def test_several_files_are_one(folder, params):
    flat = split(folder)
    again = weights.named_leaves(bridge.params(bridge.open_folder(folder, NAME, wan.get_config())))
    assert set(again) == set(params) and all((again[name] == params[name]).all() for name in params)
    first = min(flat)
    (folder / "b.safetensors").write_bytes(safetensors.save({first: flat[first]}))
    with pytest.raises(InputError, match=f"b.safetensors: {first} is there twice, the first time in a.safetensors"):
        bridge.open_folder(folder, NAME, wan.get_config())
    (folder / "b.safetensors").unlink()
    with pytest.raises(InputError, match="b.safetensors is not a readable safetensors file"):
        bridge.open_folder(folder, NAME, wan.get_config())
    (folder / f"{wan_vae.WEIGHTS}.index.json").write_text("[]")
    with pytest.raises(InputError, match="is no readable index of weights"):
        bridge.open_folder(folder, NAME, wan.get_config())


def test_a_model_is_loaded_without_a_run(folder, params, tmp_path):
    loaded = bridge.load(folder)
    hashed = bridge.save(tmp_path / "own", bridge.open_folder(folder, NAME))
    for vae in (loaded, bridge.load(tmp_path / "own")):
        assert weights.weights_hash(nnx.to_pure_dict(nnx.state(vae))) == hashed
        np.testing.assert_array_equal(vae.encoder.stem.weight[...], params["encoder/stem/weight"])
    (folder / bridge.CONFIG).write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(InputError, match="'model_type': 'llama'.* is of no layout here; there are diffusers-dit"):
        bridge.load(folder)


def door(*arguments):
    """Output of a door that succeeds."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, cwd=ROOT, env=environment,
                          check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_doors_lead_in_and_out(folder, params, tmp_path):
    name, run = NAME, tmp_path / "run"
    table = door("launch.import_weights", f"--from={name}", f"--dir={folder}", "--dry-run")
    assert len(table.splitlines()) == len(params) - 2 and not run.exists()
    assert "weights" in door("launch.import_weights", f"--from={name}", f"--dir={folder}", f"--out={run}")
    vae, meta = pipeline.autoencoder(run)
    assert meta["hash"] and meta["imported"]["layout"] == name
    np.testing.assert_array_equal(vae.mean[...], params["mean"])
    z = pipeline.encode(vae, np.zeros((1, 3, 4, 4, 3), np.uint8))
    assert z.shape == (1, 2, 2, 2, 3) and np.isfinite(z).all()
    door("launch.export_weights", f"--to={name}", f"--vae={run}", f"--out={tmp_path / 'back'}")
    kept = (run / "config.json").read_bytes()
    refused = subprocess.run([sys.executable, "-m", "launch.export_weights", f"--to={name}", f"--vae={run}",
                              f"--out={run}"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert refused.returncode == 2 and "is not empty; give a new folder" in refused.stderr
    assert (run / "config.json").read_bytes() == kept
    for file in (bridge.CONFIG, wan_vae.WEIGHTS):
        assert (tmp_path / "back" / file).read_bytes() == (folder / file).read_bytes()
