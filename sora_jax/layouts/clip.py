"""transformers' CLIPTextModel and CLIPTextModelWithProjection: names and config.json ⇄ `models.clip_text`.

Names with and without `text_model.` are read. A folder of the whole CLIP may be given: its pictures' side is not read.
"""
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from sora_jax.rows import Row, layer

NAME, TITLE, MODEL, PRESET = "transformers-clip-text", "CLIPTextModel", "clip_text", ""
WEIGHTS = "model.safetensors"
FIXED = {"model_type": ("clip_text_model", "clip")}
SIZES = {"vocab_size": "vocab", "hidden_size": "width", "num_hidden_layers": "depth", "num_attention_heads": "heads",
         "intermediate_size": "hidden", "max_position_embeddings": "length", "projection_dim": "projection"}
UNDER, PROJECTION = "text_model.", "text_projection.weight"
# Pictures' side, temperature, and the numbers 0, 1, 2 … that old files hold.
OUTSIDE = ("vision_model.", "visual_projection.", "logit_scale")
COUNTED = "embeddings.position_ids"
MISTAKEN = 2  # what old configs say of the token that ends a caption; it is the largest number in it


def knows(given: Mapping[str, Any]) -> bool:
    """Whether a config.json is of this layout."""
    return given.get("model_type") in FIXED["model_type"]


def read(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `models.clip_text`; what the config does not say is as in the paper. Whether there is a projection,
    `completed` says."""
    whole = given.get("model_type") == "clip"
    said = {"vocab_size": 49408, "hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8,
            "intermediate_size": 2048, "max_position_embeddings": 77, "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5, "eos_token_id": 49407, "projection_dim": 512}
    said |= {**(given.get("text_config") or {}), "projection_dim": given.get("projection_dim", 512)} if whole else given
    said["projection_dim"], eos = said["projection_dim"] or 0, said["eos_token_id"]
    return {"name": MODEL, **{own: int(said[name]) for name, own in SIZES.items()}, "activation": said["hidden_act"],
            "epsilon": float(said["layer_norm_eps"]), "eos": -1 if eos == MISTAKEN else int(eos)}


def completed(fields: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The fields with what only the names of the weights say: whether there is a projection."""
    return {**fields, "projection": fields["projection"] if PROJECTION in set(names) else 0}


def constants(given: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Leaves that stand in config.json: none."""
    return {}


def accepted(names: Iterable[str]) -> dict[str, str]:
    """Names of a file → names of the table, which have the prefix."""
    kept = {}
    for name in names:
        inside = name == PROJECTION or name.startswith(UNDER)
        if not name.startswith(OUTSIDE) and name.removeprefix(UNDER) != COUNTED:
            kept[name] = name if inside else UNDER + name
    return kept


def write(fields: Mapping[str, Any], flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The config.json of these fields."""
    title = "CLIPTextModelWithProjection" if fields["projection"] else TITLE
    return {"architectures": [title], "model_type": "clip_text_model",
            **{name: fields[own] for name, own in SIZES.items()}, "hidden_act": fields["activation"],
            "layer_norm_eps": fields["epsilon"], "eos_token_id": MISTAKEN if fields["eos"] == -1 else fields["eos"],
            "projection_dim": fields["projection"] or fields["width"], "attention_dropout": 0.0}


def table(fields: Mapping[str, Any]) -> list[Row]:
    """Every weight of the encoder."""
    depth, block = fields["depth"], f"{UNDER}encoder.layers.{{i}}"
    rows = [Row(f"{UNDER}embeddings.token_embedding.weight", "tokens", "same"),
            Row(f"{UNDER}embeddings.position_embedding.weight", "positions", "same"),
            *layer(f"{UNDER}final_layer_norm", "norm", "gain")]
    for k, part in enumerate("qkv"):
        rows += layer(f"{block}.self_attn.{part}_proj", "blocks/qkv", "dense", depth, (k, 3))
    for foreign, own, turn in (("self_attn.out_proj", "out", "dense"), ("mlp.fc1", "up", "dense"),
                               ("mlp.fc2", "down", "dense"), ("layer_norm1", "norm_attention", "gain"),
                               ("layer_norm2", "norm_mlp", "gain")):
        rows += layer(f"{block}.{foreign}", f"blocks/{own}", turn, depth)
    return rows + ([Row(PROJECTION, "project/kernel", "dense")] if fields["projection"] else [])
