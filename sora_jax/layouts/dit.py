"""diffusers' DiTTransformer2DModel: names and config.json ⇄ `models.dit` with class labels (Peebles and Xie 2023).

Every block of the foreign model has its own copy of what embeds noise level and class; the copies must be equal, as
they are in all published weights, for here there is one.
"""
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from sora_jax.rows import Row, layer
from sora_jax.types import InputError

NAME, TITLE, MODEL, PRESET = "diffusers-dit", "DiTTransformer2DModel", "dit", "dit_image"
WEIGHTS = "diffusion_pytorch_model.safetensors"
FIXED = {"_class_name": (TITLE, None), "activation_fn": ("gelu-approximate", None),
         "norm_type": ("ada_norm_zero", None), "attention_bias": (True, None),
         "upcast_attention": (False, None), "dropout": (0.0, None)}
KIND = {"text": "none", "pooled": "direct", "qk_norm": "none", "positions": "sincos-2d", "modulation": "block",
        "mlp": "gelu", "attention": "full"}
TIME = {"time_shift": -1.0, "time_ends": True}


def knows(given: Mapping[str, Any]) -> bool:
    """Whether a config.json is of this layout."""
    return given.get("_class_name") == TITLE


def read(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a class-conditional transformer. Raises KeyError, and InputError for outputs that are no multiple."""
    channels, outputs = given["in_channels"], given.get("out_channels") or given["in_channels"]
    if outputs not in (channels, 2 * channels):
        raise InputError(f"out_channels={outputs} of in_channels={channels}: neither as many nor twice as many")
    width = given["num_attention_heads"] * given["attention_head_dim"]
    return {"name": MODEL, "width": width, "depth": given["num_layers"], "heads": given["num_attention_heads"],
            "patch": (1, given["patch_size"], given["patch_size"]), "channels": channels,
            "variance": outputs > channels, "classes": given.get("num_embeds_ada_norm", 1000),
            "side": given.get("sample_size", 32)}


def constants(given: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Leaves that stand in config.json: none."""
    return {}


def accepted(names: Iterable[str]) -> dict[str, str]:
    """Names of a file → names of the table; all of them."""
    return {name: name for name in names}


def write(fields: Mapping[str, Any], flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The config.json of these fields."""
    return {"_class_name": TITLE, "num_attention_heads": fields["heads"],
            "attention_head_dim": fields["width"] // fields["heads"], "in_channels": fields["channels"],
            "out_channels": fields["channels"] * (1 + fields["variance"]), "num_layers": fields["depth"],
            "attention_bias": True, "sample_size": fields["side"], "patch_size": fields["patch"][1],
            "activation_fn": "gelu-approximate", "num_embeds_ada_norm": fields["classes"], "upcast_attention": False,
            "norm_type": "ada_norm_zero", "norm_elementwise_affine": False, "norm_eps": 1e-5, "dropout": 0.0}


def to_run(fields: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The fields as sections of a run's config; pictures have eight times the side of their latents."""
    shape = {name: fields[name] for name in ("width", "depth", "heads", "patch", "variance")}
    side = 8 * fields["side"]
    return {"model": {**shape, **KIND, "size": "", **TIME}, "vae": {"channels": fields["channels"]},
            "text": {"name": "labels", "width": fields["width"], "classes": fields["classes"]},
            "data": {"height": side, "width": side}}


def from_run(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a run. Raises InputError naming what this layout cannot say."""
    if config["stage"] != "dit" or config["text"]["name"] != "labels":
        raise InputError(f"stage={config['stage']!r}, text.name={config['text']['name']!r}: {NAME} is of transformers "
                         "that are told class labels")
    model = config["model"]
    for name, value in {**KIND, "hidden": 0, "mlp_ratio": 4, **TIME}.items():
        if model.get(name, value) != value:
            raise InputError(f"model.{name}={model[name]!r}: {NAME} can say {value!r} only")
    if model["patch"][0] != 1 or model["patch"][1] != model["patch"][2]:
        raise InputError(f"model.patch={tuple(model['patch'])}: {NAME} can say squares of one frame only")
    return {"name": MODEL, **{name: model[name] for name in ("width", "depth", "heads", "patch")},
            "variance": model.get("variance", False), "channels": config["vae"]["channels"],
            "classes": config["text"]["classes"], "side": config["data"]["height"] // 8}


def table(fields: Mapping[str, Any]) -> list[Row]:
    """Every weight of the transformer."""
    depth, (_, high, wide), block = fields["depth"], fields["patch"], "transformer_blocks.{i}"
    rows = layer("pos_embed.proj", "embed", "patch2", sizes=(("kh", high), ("kw", wide)))
    for k, own in enumerate(("time_in", "time_out")):
        rows += layer(f"{block}.norm1.emb.timestep_embedder.linear_{k + 1}", own, "dense", depth, alike=True)
    table = f"{block}.norm1.emb.class_embedder.embedding_table.weight"
    rows.append(Row(table, "text/table", "same", depth, alike=True))
    for k, part in enumerate("qkv"):
        rows += layer(f"{block}.attn1.to_{part}", "blocks/qkv", "dense", depth, (k, 3))
    for foreign, own in (("norm1.linear", "modulation"), ("attn1.to_out.0", "out"), ("ff.net.0.proj", "up"),
                         ("ff.net.2", "down")):
        rows += layer(f"{block}.{foreign}", f"blocks/{own}", "dense", depth)
    return rows + layer("proj_out_1", "head_modulation", "dense") + layer("proj_out_2", "head", "dense")
