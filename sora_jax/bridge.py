"""Weights of other libraries ⇄ this package's: a table of names, strict in both directions.

One layout so far: "diffusers-wan-vae", a folder with `config.json` and `diffusion_pytorch_model.safetensors` of
diffusers' AutoencoderKLWan (Wan 2.1). Every weight is named by one row of the table, and no row is without its weight.
"""
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from einops import rearrange
from flax import nnx, traverse_util
from jaxtyping import Array, PyTree
from ml_collections import ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors import numpy as safetensors

from sora_jax import build, disk, weights
from sora_jax.types import ConfigError, InputError

LAYOUTS = ("diffusers-wan-vae",)
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
# How a foreign weight is turned, and back.
TURNS = {
    "conv3": ("d c kf kh kw -> kf kh kw c d", "kf kh kw c d -> d c kf kh kw"),
    "conv2": ("d c kh kw -> kh kw c d", "kh kw c d -> d c kh kw"),
    "dense": ("d c 1 1 -> c d", "c d -> d c 1 1"),
    "gain3": ("d 1 1 1 -> d", "d -> d 1 1 1"),
    "gain2": ("d 1 1 -> d", "d -> d 1 1"),
    "same": ("d -> d", "d -> d"),
}
STATISTICS = {"latents_mean": "mean", "latents_std": "std"}
FIXED = {"is_residual": (False, None), "patch_size": (None, 1), "in_channels": (3, None), "out_channels": (3, None),
         "attn_scales": ([], None), "_class_name": ("AutoencoderKLWan", None)}


class Row(NamedTuple):
    """A foreign name, the path here, and the turn between them."""

    foreign: str
    own: str
    turn: str


def layer(foreign: str, own: str, turn: str) -> list[Row]:
    """The rows of a layer with a bias."""
    name = "kernel" if turn == "dense" else "weight"
    return [Row(f"{foreign}.weight", f"{own}/{name}", turn), Row(f"{foreign}.bias", f"{own}/bias", "same")]


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
        *layer(f"{attend}.to_qkv", f"{own}/middle/1/qkv", "dense"),
        *layer(f"{attend}.proj", f"{own}/middle/1/out", "dense"),
        *residual(f"{mid}.resnets.1", f"{own}/middle/2", False),
    ]


def table(fields: dict[str, Any]) -> list[Row]:
    """Every weight of the autoencoder that the fields of a `vae` section describe."""
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


class Opened(NamedTuple):
    """A foreign folder whose every key, name and shape has been checked."""

    path: Path
    config: ConfigDict
    rows: list[Row]
    shapes: dict[str, tuple[int, ...]]
    statistics: dict[str, list[float]]


def open_folder(folder: str | Path, config: ConfigDict) -> Opened:
    """A folder of the layout "diffusers-wan-vae"; its autoencoder takes the place of the config's. No weight is read.

    Raises InputError, one line that names the field or the first key that is missing, unknown or of another shape.
    """
    folder = Path(folder)
    fields, statistics = read_config(folder)
    config = config.copy_and_resolve_references()
    config.vae.update(fields)
    rows, path = table(fields), folder / WEIGHTS
    try:
        own = {name: leaf.shape for name, leaf in weights.named_leaves(build.graph(config)[1]).items()}
    except ConfigError as error:
        raise InputError(f"{folder / CONFIG}: {error}") from error
    want = {row.foreign: turned(np.broadcast_to(np.float32(0), own[row.own]), row, back=True).shape for row in rows}
    have = _read(path, lambda file, name: tuple(file.get_slice(name).get_shape()))
    for name in sorted(set(want) | set(have)):
        if name not in have or name not in want:
            raise InputError(f"{path}: {name} is {'missing' if name in want else 'no weight of this autoencoder'}")
        if have[name] != want[name]:
            raise InputError(f"{path}: {name} is {have[name]}, its {CONFIG} asks for {want[name]}")
    return Opened(path, config, rows, want, statistics)


def params(opened: Opened) -> PyTree:
    """The weights of an opened folder and its statistics, float32, as the pure dict of the config's autoencoder."""
    found = _read(opened.path, lambda file, name: np.asarray(file.get_tensor(name), np.float32))
    flat = {row.own: np.ascontiguousarray(turned(found.pop(row.foreign), row)) for row in opened.rows}
    flat |= {STATISTICS[name]: np.asarray(values, np.float32) for name, values in opened.statistics.items()}
    return nnx.restore_int_paths(traverse_util.unflatten_dict(flat, sep="/"))


def write_folder(folder: str | Path, config: ConfigDict, params: PyTree) -> None:
    """The weights of a "wan_vae" as a folder that diffusers opens. Raises InputError if its layout cannot say them."""
    vae = config.vae
    if vae.name != "wan_vae":
        raise InputError(f"vae.name={vae.name} has no layout {LAYOUTS[0]}; only wan_vae has")
    times = [width // vae.encoder[0] for width in vae.encoder]
    for name in ("encoder", "decoder"):
        if tuple(vae[name]) != tuple(vae[name][0] * k for k in times):
            raise InputError(f"vae.{name}={tuple(vae[name])} is not a base width times {times}, which {CONFIG} can say")
    flat = weights.named_leaves(params)
    time, space, _ = build.vae_config(config).ratio
    given = {name: [float(value) for value in np.asarray(flat[own])] for name, own in STATISTICS.items()} | {
        "_class_name": "AutoencoderKLWan", "base_dim": vae.encoder[0], "decoder_base_dim": vae.decoder[0],
        "z_dim": vae.channels, "dim_mult": times, "num_res_blocks": vae.blocks, "attn_scales": [], "dropout": 0.0,
        "temperal_downsample": [halved > 1 for halved in vae.time], "is_residual": False, "in_channels": 3,
        "out_channels": 3, "patch_size": None, "scale_factor_temporal": time, "scale_factor_spatial": space,
    }
    stored = {row.foreign: np.ascontiguousarray(turned(flat[row.own], row, back=True)) for row in table(vae.to_dict())}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    disk.write(folder / WEIGHTS, safetensors.save(stored, metadata={"format": "pt"}))
    disk.write(folder / CONFIG, (json.dumps(given, indent=2, sort_keys=True) + "\n").encode())


def turned(x: Array | np.ndarray, row: Row, back: bool = False) -> np.ndarray:
    """A foreign weight as it is laid out here, or `back`. Raises InputError if it has another number of axes."""
    return rearrange(np.asarray(x), TURNS[row.turn][back])


def described(opened: Opened) -> str:
    """The table for people: foreign name, path here, turn, foreign shape."""
    wide = max(len(row.foreign) for row in opened.rows), max(len(row.own) for row in opened.rows)
    return "\n".join(f"{row.foreign:{wide[0]}}  {row.own:{wide[1]}}  {row.turn:5}  "
                     f"{'×'.join(map(str, opened.shapes[row.foreign]))}" for row in opened.rows)


def read_config(folder: Path) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """(fields of a `vae` section, statistics) of a folder. Raises InputError naming what is not Wan 2.1's layout."""
    path = folder / CONFIG
    try:
        given = dict(json.loads(path.read_text()))
        for name, allowed in FIXED.items():
            if given.get(name, allowed[0]) not in allowed:
                raise InputError(f"{path}: {name}={given[name]!r} is not Wan 2.1's layout, which has {allowed[0]!r}")
        base, times = given["base_dim"], given["dim_mult"]
        up = given.get("decoder_base_dim") or base
        fields = {
            "name": "wan_vae", "weights": "", "patch": 1, "space": (2,) * (len(times) - 1),
            "time": tuple(1 + bool(halved) for halved in given["temperal_downsample"]),
            "encoder": tuple(base * k for k in times), "decoder": tuple(up * k for k in times),
            "blocks": given["num_res_blocks"], "channels": given["z_dim"],
        }
        statistics = {name: [float(value) for value in given[name]] for name in STATISTICS}
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is not a readable config; give the folder that holds it and {WEIGHTS}") from error
    except KeyError as error:
        raise InputError(f"{path}: {error.args[0]} is missing") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} is no config of an AutoencoderKLWan ({error})") from error
    if list(times[:1]) != [1]:
        raise InputError(f"{path}: dim_mult={times} must begin with 1: the first convolution has base_dim channels")
    for name, values in statistics.items():
        if len(values) != fields["channels"]:
            raise InputError(f"{path}: {name} has {len(values)} numbers, z_dim is {fields['channels']}")
    if not all(value > 0 for value in statistics["latents_std"]):
        raise InputError(f"{path}: latents_std={statistics['latents_std']} must be positive, latents are divided by it")
    return fields, statistics


def _read(path: Path, what) -> dict[str, Any]:
    try:
        with safe_open(path, framework="flax") as file:
            return {name: what(file, name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a readable safetensors file ({error}); copy it again") from error
