"""diffusers' WanTransformer3DModel (text to video of Wan 2.1): names and config.json ⇄ `models.dit`."""
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from sora_jax.rows import Row, heads, layer
from sora_jax.types import InputError

NAME, TITLE, MODEL, PRESET = "diffusers-wan-dit", "WanTransformer3DModel", "dit", "wan_dit"
WEIGHTS = "diffusion_pytorch_model.safetensors"
FIXED = {"_class_name": (TITLE, None), "cross_attn_norm": (True, None), "qk_norm": ("rms_norm_across_heads", None),
         "image_dim": (None,), "added_kv_proj_dim": (None,), "pos_embed_seq_len": (None,),
         "eps": (1e-6,)}
KIND = {"modulation": "single", "text": "cross", "pooled": "none", "caption_mlp": True, "cross_norm": True,
        "qk_norm": "full", "positions": "rotary", "attention": "full", "mlp": "gelu", "variance": False,
        "rope_theta": 10_000.0, "time_shift": 0.0, "time_ends": False}


def knows(given: Mapping[str, Any]) -> bool:
    """Whether a config.json is of this layout."""
    return given.get("_class_name") == TITLE


def read(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the transformer. Raises KeyError, and InputError for another time embedding or other outputs."""
    if given.get("freq_dim", 256) != 256 or given["out_channels"] != given["in_channels"]:
        raise InputError(f"freq_dim={given.get('freq_dim')}, out_channels={given['out_channels']}: {NAME} has 256, and "
                         f"as many as in_channels={given['in_channels']}")
    return {"name": MODEL, "width": given["num_attention_heads"] * given["attention_head_dim"],
            "depth": given["num_layers"], "heads": given["num_attention_heads"], "patch": tuple(given["patch_size"]),
            "channels": given["in_channels"], "hidden": given["ffn_dim"], "text_width": given["text_dim"]}


def constants(given: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Leaves that the folder does not hold: the state of no caption, which it encodes as a text instead."""
    return {"text/null": np.zeros(given["text_dim"], np.float32)}


def accepted(names: Iterable[str]) -> dict[str, str]:
    """Names of a file → names of the table; all of them."""
    return {name: name for name in names}


def write(fields: Mapping[str, Any], flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The config.json of these fields."""
    return {"_class_name": TITLE, "patch_size": list(fields["patch"]), "num_attention_heads": fields["heads"],
            "attention_head_dim": fields["width"] // fields["heads"], "in_channels": fields["channels"],
            "out_channels": fields["channels"], "text_dim": fields["text_width"], "freq_dim": 256,
            "ffn_dim": fields["hidden"], "num_layers": fields["depth"], "cross_attn_norm": True,
            "qk_norm": "rms_norm_across_heads", "eps": 1e-6, "image_dim": None, "added_kv_proj_dim": None,
            "rope_max_seq_len": 1024, "pos_embed_seq_len": None}


def to_run(fields: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The fields as sections of a run's config."""
    shape = {name: fields[name] for name in ("width", "depth", "heads", "patch", "hidden")}
    return {"model": {**shape, **KIND, "size": ""}, "vae": {"channels": fields["channels"]},
            "text": {"name": "given", "width": fields["text_width"]}}


def from_run(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a run. Raises InputError naming what this layout cannot say."""
    if config["stage"] != "dit" or config["text"]["name"] != "given":
        raise InputError(f"stage={config['stage']!r}, text.name={config['text']['name']!r}: {NAME} is of transformers "
                         "whose captions are encoded elsewhere")
    model = config["model"]
    for name, value in KIND.items():
        if model.get(name) != value:
            raise InputError(f"model.{name}={model.get(name)!r}: {NAME} can say {value!r} only")
    hidden = model["hidden"] or model["mlp_ratio"] * model["width"]
    return {"name": MODEL, **{name: model[name] for name in ("width", "depth", "heads", "patch")}, "hidden": hidden,
            "channels": config["vae"]["channels"], "text_width": config["text"]["width"]}


def table(fields: Mapping[str, Any]) -> list[Row]:
    """Every weight of the transformer. Rotary pairs are neighbours there and half a head apart here."""
    depth, pairs, block = fields["depth"], heads(fields["heads"]), "blocks.{i}"
    sizes = tuple(zip(("kf", "kh", "kw"), fields["patch"], strict=True))
    embedder = "condition_embedder"
    rows = layer("patch_embedding", "embed", "patch3", sizes=sizes)
    for foreign, own in (("time_embedder.linear_1", "time_in"), ("time_embedder.linear_2", "time_out"),
                         ("time_proj", "modulation"), ("text_embedder.linear_1", "states_in"),
                         ("text_embedder.linear_2", "states_out")):
        rows += layer(f"{embedder}.{foreign}", own, "dense")
    for k, part in enumerate("qk"):
        rows += layer(f"{block}.attn1.to_{part}", "blocks/qkv", "pairs", depth, (k, 3), pairs)
        rows.append(Row(f"{block}.attn1.norm_{part}.weight", f"blocks/norm_{part}/scale", "pairs1", depth, sizes=pairs))
        rows.append(Row(f"{block}.attn2.norm_{part}.weight", f"blocks/norm_cross_{part}/scale", "gain", depth))
    rows += layer(f"{block}.attn1.to_v", "blocks/qkv", "dense", depth, (2, 3))
    for k, part in enumerate("kv"):
        rows += layer(f"{block}.attn2.to_{part}", "blocks/cross_kv", "dense", depth, (k, 2))
    for foreign, own, turn in (("attn1.to_out.0", "out", "dense"), ("attn2.to_q", "cross_q", "dense"),
                               ("attn2.to_out.0", "cross_out", "dense"), ("norm2", "cross_norm", "gain"),
                               ("ffn.net.0.proj", "up", "dense"), ("ffn.net.2", "down", "dense")):
        rows += layer(f"{block}.{foreign}", f"blocks/{own}", turn, depth)
    rows.append(Row(f"{block}.scale_shift_table", "blocks/modulation", "row", depth))
    return rows + layer("proj_out", "head", "dense") + [Row("scale_shift_table", "head_table", "row")]
