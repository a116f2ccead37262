"""diffusers' AutoencoderKLWan (Wan 2.1): names and config.json ⇄ `models.wan_vae` and the `vae` section of a run."""
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from sora_jax.rows import Row, layer
from sora_jax.types import InputError

NAME, TITLE, MODEL, PRESET = "diffusers-wan-vae", "AutoencoderKLWan", "wan_vae", "wan"
WEIGHTS = "diffusion_pytorch_model.safetensors"
STATISTICS = {"latents_mean": "mean", "latents_std": "std"}
FIXED = {"is_residual": (False, None), "patch_size": (None, 1), "in_channels": (3, None), "out_channels": (3, None),
         "attn_scales": ([], None), "_class_name": (TITLE, None)}


def knows(given: Mapping[str, Any]) -> bool:
    """Whether a config.json is of this layout."""
    return given.get("_class_name") == TITLE


def read(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a `vae` section. Raises InputError, KeyError or TypeError if the config says something else."""
    base, times = given["base_dim"], given["dim_mult"]
    up = given.get("decoder_base_dim") or base
    fields = {
        "name": MODEL, "weights": "", "patch": 1, "space": (2,) * (len(times) - 1),
        "time": tuple(1 + bool(halved) for halved in given["temperal_downsample"]),
        "encoder": tuple(base * k for k in times), "decoder": tuple(up * k for k in times),
        "blocks": given["num_res_blocks"], "channels": given["z_dim"],
    }
    if list(times[:1]) != [1]:
        raise InputError(f"dim_mult={times} must begin with 1: the first convolution has base_dim channels")
    return fields


def constants(given: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Leaves that stand in config.json: the statistics of the latents. Raises InputError if they cannot be."""
    found = {name: [float(value) for value in given[name]] for name in STATISTICS}
    for name, values in found.items():
        if len(values) != given["z_dim"]:
            raise InputError(f"{name} has {len(values)} numbers, z_dim is {given['z_dim']}")
    if not all(value > 0 for value in found["latents_std"]):
        raise InputError(f"latents_std={found['latents_std']} must be positive, latents are divided by it")
    return {own: np.asarray(found[name], np.float32) for name, own in STATISTICS.items()}


def accepted(names: Iterable[str]) -> dict[str, str]:
    """Names of a file → names of the table; those that are left out are no part of the model."""
    return {name: name for name in names}


def write(fields: Mapping[str, Any], flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The config.json of these fields and statistics. Raises InputError if it cannot say them."""
    times = [width // fields["encoder"][0] for width in fields["encoder"]]
    for name in ("encoder", "decoder"):
        widths = tuple(fields[name])
        if widths != tuple(widths[0] * k for k in times):
            raise InputError(f"vae.{name}={widths} is not a base width times {times}, which config.json can say")
    return {name: [float(value) for value in np.asarray(flat[own])] for name, own in STATISTICS.items()} | {
        "_class_name": TITLE, "base_dim": fields["encoder"][0], "decoder_base_dim": fields["decoder"][0],
        "z_dim": fields["channels"], "dim_mult": times, "num_res_blocks": fields["blocks"], "attn_scales": [],
        "temperal_downsample": [halved > 1 for halved in fields["time"]], "is_residual": False, "in_channels": 3,
        "out_channels": 3, "patch_size": None, "dropout": 0.0,
        "scale_factor_temporal": int(np.prod(fields["time"])), "scale_factor_spatial": int(np.prod(fields["space"])),
    }


def to_run(fields: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The fields as sections of a run's config."""
    return {"vae": dict(fields)}


def from_run(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a run, from its config as a plain dict. Raises InputError if it is no autoencoder's."""
    if config["stage"] != "vae":
        raise InputError(f"a {config['stage']} run is no autoencoder, which {NAME} asks for")
    if config["vae"]["name"] != MODEL:
        raise InputError(f"vae.name={config['vae']['name']} has no layout {NAME}; only {MODEL} has")
    return dict(config["vae"])


def residual(foreign: str, own: str, changes: bool) -> list[Row]:
    """The rows of a residual block; one that `changes` the width has a shortcut."""
    rows = []
    for k in "12":
        rows.append(Row(f"{foreign}.norm{k}.gamma", f"{own}/norm{k}/scale", "gain3"))
        rows += layer(f"{foreign}.conv{k}", f"{own}/conv{k}", "conv3")
    return rows + (layer(f"{foreign}.conv_shortcut", f"{own}/shortcut", "conv3") if changes else [])


def resample(foreign: str, own: str, time: int) -> list[Row]:
    """The rows of a change of size."""
    rows = layer(f"{foreign}.resample.1", f"{own}/frame", "conv2")
    return rows + (layer(f"{foreign}.time_conv", f"{own}/time", "conv3") if time > 1 else [])


def ends(foreign: str, own: str) -> list[Row]:
    """The rows of what both sides have: first and last convolution, and the blocks in the middle."""
    mid, attend = f"{foreign}.mid_block", f"{foreign}.mid_block.attentions.0"
    return [
        *layer(f"{foreign}.conv_in", f"{own}/stem", "conv3"), *layer(f"{foreign}.conv_out", f"{own}/head", "conv3"),
        Row(f"{foreign}.norm_out.gamma", f"{own}/norm/scale", "gain3"),
        *residual(f"{mid}.resnets.0", f"{own}/middle/0", False),
        Row(f"{attend}.norm.gamma", f"{own}/middle/1/norm/scale", "gain2"),
        *layer(f"{attend}.to_qkv", f"{own}/middle/1/qkv", "point"),
        *layer(f"{attend}.proj", f"{own}/middle/1/out", "point"),
        *residual(f"{mid}.resnets.1", f"{own}/middle/2", False),
    ]


def table(fields: Mapping[str, Any]) -> list[Row]:
    """Every weight of the autoencoder that the fields describe."""
    rows = [*ends("encoder", "encoder"), *layer("quant_conv", "encoder/quant", "conv3"),
            *ends("decoder", "decoder"), *layer("post_quant_conv", "decoder/quant", "conv3")]
    encoder, decoder, time, blocks = (fields[name] for name in ("encoder", "decoder", "time", "blocks"))
    k, cin = 0, encoder[0]
    for i, width in enumerate(encoder):
        for _ in range(blocks):
            rows += residual(f"encoder.down_blocks.{k}", f"encoder/down/{k}", cin != width)
            k, cin = k + 1, width
        if i < len(time):
            rows += resample(f"encoder.down_blocks.{k}", f"encoder/down/{k}", time[i])
            k += 1
    k, cin = 0, decoder[-1]
    for j, width in enumerate(reversed(decoder)):
        foreign = f"decoder.up_blocks.{j}"
        for r in range(blocks + 1):
            rows += residual(f"{foreign}.resnets.{r}", f"decoder/up/{k}", cin != width)
            k, cin = k + 1, width
        if j < len(time):
            rows += resample(f"{foreign}.upsamplers.0", f"decoder/up/{k}", time[-1 - j])
            k, cin = k + 1, width // 2
    return rows
