"""The state of facebookresearch/DiT (Peebles and Xie 2023) as safetensors ⇄ `models.dit` with class labels.

The published `.pt` files hold the weights alone: beside them, config.json gives the arguments of the class DiT. Its
fixed positions, stored as `pos_embed`, are computed here.
"""
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from sora_jax.layouts import dit
from sora_jax.rows import Row, layer
from sora_jax.types import InputError

NAME, TITLE, MODEL, PRESET, WEIGHTS = "original-dit", "DiT", "dit", "dit_image", "model.safetensors"
FIXED = {"_class_name": (TITLE,), "mlp_ratio": (4, 4.0, None)}
TIME = {"time_shift": -1.0, "time_ends": False}
COMPUTED = "pos_embed"


def knows(given: Mapping[str, Any]) -> bool:
    """Whether a config.json is of this layout."""
    return given.get("_class_name") == TITLE


def read(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a class-conditional transformer, from the arguments of the class. Raises KeyError."""
    return {"name": MODEL, "width": given["hidden_size"], "depth": given["depth"], "heads": given["num_heads"],
            "patch": (1, given["patch_size"], given["patch_size"]), "channels": given.get("in_channels", 4),
            "variance": given.get("learn_sigma", True), "classes": given.get("num_classes", 1000),
            "side": given["input_size"]}


def constants(given: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Leaves that stand in config.json: none."""
    return {}


def accepted(names: Iterable[str]) -> dict[str, str]:
    """Names of a file → names of the table; the fixed positions are in none."""
    return {name: name for name in names if name != COMPUTED}


def write(fields: Mapping[str, Any], flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The config.json of these fields."""
    return {"_class_name": TITLE, "input_size": fields["side"], "patch_size": fields["patch"][1],
            "in_channels": fields["channels"], "hidden_size": fields["width"], "depth": fields["depth"],
            "num_heads": fields["heads"], "mlp_ratio": 4.0, "num_classes": fields["classes"],
            "learn_sigma": bool(fields["variance"])}


def to_run(fields: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The fields as sections of a run's config."""
    run = dit.to_run(fields)
    return {**run, "model": {**run["model"], **TIME}}


def from_run(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a run. Raises InputError naming what this layout cannot say."""
    model = config["model"]
    for name, value in TIME.items():
        if model.get(name) != value:
            raise InputError(f"model.{name}={model.get(name)!r}: {NAME} can say {value!r} only")
    return dit.from_run({**config, "model": {**model, **dit.TIME}})


def table(fields: Mapping[str, Any]) -> list[Row]:
    """Every weight of the transformer."""
    depth, (_, high, wide) = fields["depth"], fields["patch"]
    rows = [*layer("x_embedder.proj", "embed", "patch2", sizes=(("kh", high), ("kw", wide))),
            *layer("t_embedder.mlp.0", "time_in", "dense"), *layer("t_embedder.mlp.2", "time_out", "dense"),
            Row("y_embedder.embedding_table.weight", "text/table", "same"),
            *layer("final_layer.adaLN_modulation.1", "head_modulation", "dense"),
            *layer("final_layer.linear", "head", "dense")]
    for foreign, own in (("attn.qkv", "qkv"), ("attn.proj", "out"), ("mlp.fc1", "up"), ("mlp.fc2", "down"),
                         ("adaLN_modulation.1", "modulation")):
        rows += layer(f"blocks.{{i}}.{foreign}", f"blocks/{own}", "dense", depth)
    return rows
