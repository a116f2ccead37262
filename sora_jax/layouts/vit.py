"""transformers' ViTModel and ViTForImageClassification: names and config.json ⇄ `models.vit`."""
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from sora_jax.rows import Row, layer

NAME, TITLE, MODEL, PRESET, WEIGHTS = "transformers-vit", "ViTModel", "vit", "", "model.safetensors"
SIZES = {"num_channels": "channels", "hidden_size": "width", "num_hidden_layers": "depth",
         "num_attention_heads": "heads", "intermediate_size": "hidden"}
FIXED = {"model_type": ("vit",), "hidden_act": ("gelu",), "qkv_bias": (True,), "pooler_act": ("tanh", None)}


def knows(given: Mapping[str, Any]) -> bool:
    """Whether a config.json is of this layout."""
    return given.get("model_type") == "vit"


def pair(value: Any) -> tuple[int, int]:
    """A size as (height, width)."""
    return tuple(int(part) for part in value) if isinstance(value, list | tuple) else (int(value), int(value))


def read(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `models.vit`; whether there is a head or a pooler, `completed` says."""
    return {"name": MODEL, "image": pair(given["image_size"]), "patch": pair(given["patch_size"]),
            **{own: int(given[name]) for name, own in SIZES.items()}, "epsilon": float(given["layer_norm_eps"]),
            "classes": len(given.get("id2label") or (0, 1)), "pooler": True}


def completed(fields: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The fields with what only the names of the weights say: which of the two ends there are."""
    found = set(names)
    return {**fields, "classes": fields["classes"] if "classifier.weight" in found else 0,
            "pooler": "pooler.dense.weight" in found}


def constants(given: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Leaves that stand in config.json: none."""
    return {}


def accepted(names: Iterable[str]) -> dict[str, str]:
    """Names of a file → names of the table; all of them."""
    return {name: name for name in names}


def write(fields: Mapping[str, Any], flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The config.json of these fields; classes are numbered."""
    labels = [f"LABEL_{k}" for k in range(fields["classes"])]
    more = {"id2label": dict(enumerate(labels)), "label2id": {name: k for k, name in enumerate(labels)}}
    (high, wide), (tall, broad) = fields["image"], fields["patch"]
    return {
        "architectures": ["ViTForImageClassification" if labels else "ViTModel"], "model_type": "vit",
        "image_size": high if high == wide else [high, wide], "patch_size": tall if tall == broad else [tall, broad],
        **{name: fields[own] for name, own in SIZES.items()}, "hidden_act": "gelu",
        "layer_norm_eps": fields["epsilon"], "qkv_bias": True, "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0, **(more if labels else {}),
    }


def table(fields: Mapping[str, Any]) -> list[Row]:
    """Every weight of the encoder; those of a classifier's encoder are named under `vit.`."""
    under, depth = "vit." if fields["classes"] else "", fields["depth"]
    sizes = ("kh", fields["patch"][0]), ("kw", fields["patch"][1])
    block = f"{under}encoder.layer.{{i}}"
    rows = [Row(f"{under}embeddings.cls_token", "first", "token"),
            Row(f"{under}embeddings.position_embeddings", "positions", "row"),
            *layer(f"{under}embeddings.patch_embeddings.projection", "embed", "patch2", sizes=sizes)]
    for k, part in enumerate(("query", "key", "value")):
        rows += layer(f"{block}.attention.attention.{part}", "blocks/qkv", "dense", depth, (k, 3))
    for foreign, own, turn in (("attention.output.dense", "out", "dense"), ("intermediate.dense", "up", "dense"),
                               ("output.dense", "down", "dense"), ("layernorm_before", "norm_attention", "gain"),
                               ("layernorm_after", "norm_mlp", "gain")):
        rows += layer(f"{block}.{foreign}", f"blocks/{own}", turn, depth)
    rows += layer(f"{under}layernorm", "norm", "gain")
    rows += layer("pooler.dense", "pooler", "dense") if fields["pooler"] else []
    return rows + (layer("classifier", "head", "dense") if fields["classes"] else [])
