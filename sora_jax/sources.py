"""What a run reads: its clips or latents, its one-frame clips, and the held-out set, checked against the config."""
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from sora_jax import build, collate, packing, registry
from sora_jax.types import ConfigError

DRAWS, WINDOWS = 64, 2**20  # windows of a clip, and of a whole dataset, before one comes again; the larger counts


def dataset(config: ConfigDict, **changes: Any):
    """The source that `config.data` describes; `changes` replace fields of the dataset's config (split, size …)."""
    if config.data.name == "latents":
        changes["path"] = str(Path(config.data.path) / changes.get("split", config.data.split))
        changes["length"] = config.text.length
    module = registry.load("datasets", config.data.name)
    fields = {field.name for field in dataclasses.fields(module.Config)}
    data = {k: v for k, v in {**config.data, **changes}.items() if k in fields and v != ""}
    return module.source(build.section({"data": data}, "data", module.Config))


def validation(config: ConfigDict):
    """The held-out set: uint8 clips for the autoencoder, one Batch of cached latents for the transformer."""
    count = config.eval.clips
    if config.stage == "vae":
        source = dataset(config, split="val")
        return collate.draw(source, range(min(count, len(source))))[0]
    source = dataset(config, split="val")
    if len(source) < count:
        raise ConfigError(f"eval.clips={count} but {config.data.path}/val holds {len(source)}; encode more or ask less")
    return collate.latents([source[i] for i in range(count)])


def whole_clips(config: ConfigDict):
    """uint8 training clips, uncropped, as many as are evaluated: what latent statistics are measured on."""
    source = dataset(config)
    return collate.draw(source, range(min(config.eval.clips, len(source))))[0]


def training_source(config: ConfigDict):
    """(source, collate) of the run: windows of pixels for the autoencoder, cached latents for the transformer, or
    rows that are packed of them."""
    if build.row(config)[0]:
        return packed_source(config), collate.rows
    source = dataset(config)
    if config.stage != "vae":
        check_latents(config, source)
        return source, collate.latents
    if config.data.crop:
        draws = max(DRAWS, -(-WINDOWS // len(source)))
        source = collate.Windows(source, config.data.crop_frames or config.data.frames, config.data.crop, draws)
    return source, collate.pixels


def packed_source(config: ConfigDict) -> packing.Packed:
    """Rows of the clips of all folders. ConfigError, InputError if one of them does not fit beside the others."""
    tokens, most = build.row(config)
    made = [dataset(build.at(config, path)) for path in (config.data.path, *config.data.native)]
    check_latents(config, made[0])
    for source, path in zip(made[1:], config.data.native, strict=True):
        for key in ("vae_hash", "fps", *(() if made[0].kept else ("length",))):
            if source.meta.get(key) != made[0].meta.get(key):
                raise ConfigError(f"data.native: the latents in {path} have {key} {source.meta.get(key)!r}, those in "
                                  f"{config.data.path} {made[0].meta.get(key)!r}; encode them alike")
    return packing.Packed(made, config.model.patch, tokens, most, config.data.seed)


def image_source(config: ConfigDict):
    """Cached latents of one-frame clips, trained on beside the clips. ConfigError, InputError if they do not fit."""
    source = dataset(build.one_frame(config))
    check_latents(build.one_frame(config), source)
    return source


def check_latents(config: ConfigDict, source) -> None:
    """ConfigError if the cached latents are of other clips or captions than the config describes."""
    found, want = source.meta, build.latent_shape(config)
    if tuple(found["shape"]) != want:
        raise ConfigError(f"the latents in {config.data.path} are {tuple(found['shape'])}, but data.frames, data.height"
                          f", data.width and vae make {want}; set them to what was encoded, or encode again")
    if found.get("fps", config.data.fps) != config.data.fps:
        raise ConfigError(f"data.fps={config.data.fps:g}, but the latents in {config.data.path} are of clips at "
                          f"{found['fps']:g}; set it to that, or encode again")
    if found.get("data", {}).get("name") == "physics" and world(found["data"]) != world(config.data):
        raise ConfigError(
            f"data.aspect={config.data.get('aspect', 0.0):g}: a world {world(config.data):g} times as wide as high, "
            f"the latents in {config.data.path} of one of {world(found['data']):g}; set it to that, or encode again")
    if (config.text.name == "given") != bool(source.kept):
        raise ConfigError("text.name='given' reads states of captions; give data.states, the folder that "
                          "launch.captions made" if not source.kept else
                          "data.states is read by text.name='given'; set one of them")
    if source.kept:
        if source.kept.origin.width != config.text.width:
            raise ConfigError(f"text.width={config.text.width}, but the states in {config.data.states} have "
                              f"{source.kept.origin.width} numbers; set it to that")
    elif found["length"] != config.text.length:
        raise ConfigError(f"text.length={config.text.length}, but the captions in {config.data.path} have "
                          f"{found['length']} bytes; set it to that, or encode again")


def world(data: Mapping[str, Any] | ConfigDict) -> float:
    """Width of a world in heights: what it says, or that of its frame."""
    return data.get("aspect", 0.0) or data["width"] / data["height"]
