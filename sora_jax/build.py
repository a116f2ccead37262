"""Config → objects. The only reader of ConfigDict in the package; everything below takes plain values.

`validate` raises one-line ConfigErrors before anything compiles; each other function makes one kind of object.
"""
import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx, traverse_util
from ml_collections import ConfigDict

from sora_jax import collate, registry
from sora_jax import mesh as meshes
from sora_jax.scaling.budget import Budget
from sora_jax.train import ema as averages
from sora_jax.types import ConfigError


def section(config: ConfigDict, name: str, cls, **given: Any):
    """The dataclass `cls` from the fields of `config.<name>` that it has; `given` come from elsewhere in the config."""
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in config[name].items()}
    fields = {field.name for field in dataclasses.fields(cls)}
    return cls(**{key: v for key, v in values.items() if key in fields}, **given)


def vae_config(config: ConfigDict):
    """The autoencoder's own config."""
    return section(config, "vae", registry.load("models", config.vae.name).Config)


def model_config(config: ConfigDict):
    """The (transformer, text encoder) configs; channels and caption width come from their own sections."""
    text = section(config, "text", registry.load("models", config.text.name).Config)
    dit = registry.load("models", config.model.name)
    return section(config, "model", dit.Config, channels=config.vae.channels, text_width=config.text.width,
                   dtype=config.dtype), text


def make(config: ConfigDict, key: jax.Array | int = 0) -> nnx.Module:
    """The model of the run's stage with fresh weights."""
    rngs = nnx.Rngs(key)
    if config.stage == "vae":
        return registry.load("models", config.vae.name).build(vae_config(config), rngs=rngs)
    dit, text = model_config(config)
    encoder = registry.load("models", config.text.name).build(text, rngs=rngs)
    return registry.load("models", config.model.name).build(dit, rngs=rngs, text_encoder=encoder)


def graph(config: ConfigDict) -> tuple[nnx.GraphDef, dict]:
    """The model's structure and its weights as a pure dict of shapes; nothing is allocated."""
    with nnx.use_eager_sharding(False):
        definition, params = nnx.split(nnx.eval_shape(functools.partial(make, config)))
    return definition, nnx.to_pure_dict(params)


def model(config: ConfigDict, params: dict) -> nnx.Module:
    """The model with these weights. Raises ConfigError naming the first weight that is missing, extra or misshapen."""
    definition, shapes = graph(config)
    trees = (traverse_util.flatten_dict(nnx.restore_int_paths(tree)) for tree in (shapes, params))
    want, have = ({"/".join(map(str, path)): leaf for path, leaf in tree.items()} for tree in trees)
    for name in sorted(set(want) | set(have)):
        if name not in have or name not in want:
            where = "missing from the weights" if name in want else "not in the model of the config"
            raise ConfigError(f"weight {name} is {where}")
        if want[name].shape != have[name].shape:
            raise ConfigError(f"weight {name} is {have[name].shape}, the config asks for {want[name].shape}")
    return nnx.merge(definition, nnx.State(nnx.restore_int_paths(params)))


def objective(config: ConfigDict):
    """What the run minimises."""
    return section(config, "objective", registry.load("objectives", config.objective.name).Objective)


def sampler(config: ConfigDict):
    """The sampler's module, with its `sample` function."""
    return registry.load("samplers", config.sampler.name)


def ema(config: ConfigDict):
    """The average of the weights that is evaluated and kept."""
    return averages.Power(config.ema.horizon)


def mesh(config: ConfigDict):
    """The device mesh. ConfigError if it is larger than the machine."""
    return meshes.make(**config.mesh)


def dataset(config: ConfigDict, **changes: Any):
    """The source that `config.data` describes; `changes` replace fields of the dataset's config (split, size …)."""
    if config.data.name == "latents":
        changes["path"] = str(Path(config.data.path) / changes.get("split", config.data.split))
    module = registry.load("datasets", config.data.name)
    fields = {field.name for field in dataclasses.fields(module.Config)}
    data = ConfigDict({k: v for k, v in {**config.data, **changes}.items() if k in fields and v != ""})
    return module.source(section(ConfigDict({"data": data}), "data", module.Config))


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


def training_source(config: ConfigDict):
    """(source, collate) of the run: windows of pixels for the autoencoder, cached latents for the transformer."""
    source = dataset(config)
    if config.stage != "vae":
        return source, collate.latents
    if config.data.crop:
        source = collate.Windows(source, config.data.crop_frames or config.data.frames, config.data.crop)
    return source, collate.pixels


def latent_shape(config: ConfigDict) -> tuple[int, int, int, int]:
    """Latents of one training clip. ConfigError if the autoencoder cannot compress the clip."""
    module = registry.load("models", config.vae.name)
    return module.latent_shape(vae_config(config), config.data.frames, config.data.height, config.data.width)


def clip_shape(config: ConfigDict) -> tuple[int, int, int]:
    """Frames, height, width of what one training step sees of a clip, in pixels."""
    data = config.data
    if config.stage == "vae" and data.crop:
        return data.crop_frames or data.frames, data.crop, data.crop
    return data.frames, data.height, data.width


def tokens_per_clip(config: ConfigDict) -> int:
    """Spacetime tokens of one clip. ConfigError if the patch does not divide the latents."""
    shape = latent_shape(config)
    if config.stage == "vae":
        return int(np.prod(shape[:3]))
    for name, size, part in zip(("frames", "rows", "columns"), shape, config.model.patch, strict=False):
        if size % part:
            raise ConfigError(
                f"model.patch={tuple(config.model.patch)} does not divide the latents {shape[:3]}: {size} {name} is not"
                f" a multiple of {part}; change model.patch or data.frames, data.height, data.width"
            )
    return int(np.prod([size // part for size, part in zip(shape, config.model.patch, strict=False)]))


def forward_flops(config: ConfigDict) -> dict[str, int]:
    """Forward FLOPs of one training clip by group, exact and analytic."""
    if config.stage == "vae":
        return registry.load("models", config.vae.name).flops(vae_config(config), *clip_shape(config))
    dit, text = model_config(config)
    return registry.load("models", config.model.name).flops(dit, text, tokens_per_clip(config), text.states)


def param_counts(config: ConfigDict) -> dict[str, int]:
    """Parameters by group; the groups sum to the total."""
    _, shapes = graph(config)
    if config.stage == "vae":
        return {name: sum(leaf.size for leaf in jax.tree.leaves(tree)) for name, tree in shapes.items()}
    return registry.load("models", config.model.name).params_by_group(shapes)


def steps(config: ConfigDict) -> int:
    """Updates of the whole run."""
    return max(1, config.train.clips // config.train.batch)


def validate(config: ConfigDict, here: bool = True) -> None:
    """Everything that can be wrong before a compile. Raises ConfigError naming the field and the cure.

    `here`: the run is to start on this machine, so its mesh must fit the devices; a plan needs none.
    """
    if config.stage not in ("vae", "dit"):
        raise ConfigError(f"stage={config.stage!r} is not one of vae, dit")
    for name in ("clips", "batch"):
        if config.train[name] < 1:
            raise ConfigError(f"train.{name}={config.train[name]} must be at least 1")
    latent_shape(config)
    tokens_per_clip(config)
    if config.stage == "vae":
        module = registry.load("models", config.vae.name)
        module.latent_shape(vae_config(config), *clip_shape(config))
    else:
        model_config(config)
        sampler(config)
    objective(config)
    size = dict(mesh(config).shape) if here else config.mesh
    ways = size["data"] * size["fsdp"]
    if config.train.batch % ways:
        raise ConfigError(f"train.batch={config.train.batch} is not a multiple of mesh.data × mesh.fsdp = {ways}")
    if any(not 0 < point < 1 for point in config.train.branches):
        raise ConfigError(f"train.branches={tuple(config.train.branches)} must be fractions between 0 and 1")
    graph(config)


def from_json(text: str) -> ConfigDict:
    """A config saved beside a run; JSON's lists become tuples again."""
    return ConfigDict(_tuples(json.loads(text)))


def to_json(config: ConfigDict) -> str:
    """The config as JSON text."""
    return json.dumps(config.copy_and_resolve_references().to_dict(), indent=1, sort_keys=True)


def _tuples(value):
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items()}
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def budget(config: ConfigDict) -> Budget:
    """What the run costs, from the config alone; nothing is compiled."""
    validate(config, here=False)
    width, depth = (config.model.width, config.model.depth) if config.stage == "dit" else (
        max(config.vae.decoder), len(config.vae.decoder))
    return Budget.make(
        param_counts(config), forward_flops(config), tokens=tokens_per_clip(config), clips=config.train.clips,
        batch=config.train.batch, width=width, depth=depth, mesh=dict(config.mesh), dtype=config.dtype,
    )
