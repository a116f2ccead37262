"""transformers' T5EncoderModel (version 1.1) and UMT5EncoderModel: names and config.json ⇄ `models.t5`.

A folder of the whole T5 may be given: its decoder is no part of the encoder and is not read."""
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from sora_jax.rows import Row
from sora_jax.types import InputError

NAME, TITLE, MODEL, PRESET, WEIGHTS = "transformers-t5", "T5EncoderModel", "t5", "", "model.safetensors"
FIXED = {"model_type": ("t5", "umt5")}
SIZES = {"vocab_size": "vocab", "d_model": "width", "num_layers": "depth", "num_heads": "heads", "d_kv": "head",
         "d_ff": "hidden", "relative_attention_num_buckets": "buckets", "relative_attention_max_distance": "distance"}
GATED = "gated-gelu"
SHARED, TIED = "shared.weight", "encoder.embed_tokens.weight"
DECODER = ("decoder.", "lm_head.")


def knows(given: Mapping[str, Any]) -> bool:
    """Whether a config.json is of this layout."""
    return given.get("model_type") in ("t5", "umt5")


def read(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `models.t5`. Raises KeyError, and InputError for the MLP of the T5 of 2019 (relu) or of others."""
    if given["feed_forward_proj"] != GATED:
        raise InputError(f"feed_forward_proj={given['feed_forward_proj']!r} is another MLP; {NAME} has {GATED!r}, as T5"
                         " 1.1 and UMT5")
    said = {"relative_attention_max_distance": 128, **given}  # which old configs do not say
    return {"name": MODEL, **{own: int(said[name]) for name, own in SIZES.items()},
            "epsilon": float(given["layer_norm_epsilon"]), "every": given["model_type"] == "umt5"}


def constants(given: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Leaves that stand in config.json: none."""
    return {}


def accepted(names: Iterable[str]) -> dict[str, str]:
    """Names of a file → names of the table; the embedding has two, of which a file may hold either or both."""
    kept = {name: name for name in names if not name.startswith(DECODER)}
    if SHARED in kept:
        kept.pop(TIED, None)
    return {name: SHARED if name == TIED else name for name in kept}


def write(fields: Mapping[str, Any], flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The config.json of these fields."""
    kind, title = ("umt5", "UMT5EncoderModel") if fields["every"] else ("t5", "T5EncoderModel")
    return {"architectures": [title], "model_type": kind, "layer_norm_epsilon": fields["epsilon"],
            **{name: fields[own] for name, own in SIZES.items()},
            "feed_forward_proj": GATED, "dense_act_fn": "gelu_new", "is_gated_act": True, "dropout_rate": 0.0,
            "is_encoder_decoder": False, "use_cache": False, "tie_word_embeddings": False, "pad_token_id": 0,
            "eos_token_id": 1}


def table(fields: Mapping[str, Any]) -> list[Row]:
    """Every weight of the encoder."""
    depth, attend, mlp = fields["depth"], "encoder.block.{i}.layer.0", "encoder.block.{i}.layer.1"
    bias = "SelfAttention.relative_attention_bias.weight"
    rows = [Row(SHARED, "tokens", "same"), Row("encoder.final_layer_norm.weight", "norm/scale", "same"),
            Row(f"{attend}.layer_norm.weight", "layers/norm_attention/scale", "same", depth),
            Row(f"{mlp}.layer_norm.weight", "layers/norm_mlp/scale", "same", depth),
            Row(f"{attend}.SelfAttention.o.weight", "layers/out/kernel", "dense", depth),
            Row(f"{mlp}.DenseReluDense.wo.weight", "layers/down/kernel", "dense", depth)]
    rows += [Row(f"{attend}.SelfAttention.{part}.weight", "layers/qkv/kernel", "dense", depth, (k, 3))
             for k, part in enumerate("qkv")]
    rows += [Row(f"{mlp}.DenseReluDense.wi_{k}.weight", "layers/up/kernel", "dense", depth, (k, 2)) for k in range(2)]
    return rows + ([Row(f"{attend}.{bias}", "layers/relative", "same", depth)] if fields["every"]
                   else [Row(f"encoder.block.0.layer.0.{bias}", "relative", "same")])
