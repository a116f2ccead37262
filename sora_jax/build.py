"""Config → objects. The only reader of ConfigDict in the package; everything below takes plain values.

`validate` raises one-line ConfigErrors before anything compiles; each other function makes one kind of object.
"""
import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx, traverse_util
from ml_collections import ConfigDict

from sora_jax import mesh as meshes
from sora_jax import pretrained, registry
from sora_jax.diffusion import joint
from sora_jax.scaling.budget import Budget, text_elements
from sora_jax.train import ema as averages
from sora_jax.train import optimizer, widths
from sora_jax.types import ConfigError

POSITIVE = {
    "data": ("frames", "height", "width", "fps"), "text": ("width", "heads", "length", "pool"),
    "vae": ("patch", "time", "space", "encoder", "decoder", "blocks", "channels"),
    "model": ("width", "depth", "heads", "patch", "mlp_ratio"), "sampler": ("steps",), "train": ("clips", "batch"),
    "eval": ("clips", "times"),
}


def section(config: ConfigDict | Mapping[str, Any], name: str, cls, **given: Any):
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
    """The model of the run's stage with fresh weights, as its width rule draws them."""
    rngs = nnx.Rngs(key)
    if config.stage == "vae":
        return registry.load("models", config.vae.name).build(vae_config(config), rngs=rngs)
    dit, text = model_config(config)
    encoder = registry.load("models", config.text.name).build(text, rngs=rngs)
    fresh = registry.load("models", config.model.name).build(dit, rngs=rngs, text_encoder=encoder)
    base = widths.base(config.optimizer)
    return widths.begin(fresh, base) if base else fresh


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
    kind = registry.load("objectives", config.objective.name).Objective
    return section(config, "objective", kind, **pretrained.term(config))


def training_objective(config: ConfigDict):
    """What an update minimises: the objective, or its mean over clips and one-frame clips."""
    return joint.Joint(objective(config)) if images_per_clip(config) else objective(config)


def sampler(config: ConfigDict):
    """The sampler's module, with its `sample` function."""
    return registry.load("samplers", config.sampler.name)


def ema(config: ConfigDict):
    """The average of the weights that is evaluated and kept."""
    return averages.Power(config.ema.horizon)


def mesh(config: ConfigDict):
    """The device mesh. ConfigError if it is larger than the machine."""
    return meshes.make(**config.mesh)


def images_per_clip(config: ConfigDict) -> int:
    """One-frame clips that an update sees beside each clip (0 in configs from before there were any)."""
    return config.train.get("images", 0)


def velocity_clips(config: ConfigDict) -> int:
    """Clips of uniform motion that annealed weights go on from (0 in configs from before there were any)."""
    return config.eval.get("velocity", 0)


def one_frame(config: ConfigDict) -> ConfigDict:
    """The config with the run's one-frame clips in the place of its clips."""
    data = {**config.data, "frames": 1, "path": config.data.get("images", "")}
    return ConfigDict({**config, "data": data})


def latent_shape(config: ConfigDict) -> tuple[int, int, int, int]:
    """Latents of what one training step sees of a clip. ConfigError if the autoencoder cannot compress it."""
    module = registry.load("models", config.vae.name)
    try:
        return module.latent_shape(vae_config(config), *clip_shape(config))
    except ConfigError as error:
        if clip_shape(config) == (config.data.frames, config.data.height, config.data.width):
            raise
        text = str(error).replace("data.frames", "data.crop_frames").replace("data.height", "data.crop")
        raise ConfigError(text) from error


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
    """Forward FLOPs of one training clip, and of the one-frame clips beside it, by group, exact and analytic."""
    if config.stage == "vae":
        module, seen = registry.load("models", config.vae.name), clip_shape(config)
        return module.flops(vae_config(config), *seen) | pretrained.flops(config, *seen)
    dit, text = model_config(config)
    flops, images = registry.load("models", config.model.name).flops, images_per_clip(config)
    clip = flops(dit, text, tokens_per_clip(config), text.states)
    if not images:
        return clip
    image = flops(dit, text, tokens_per_clip(one_frame(config)), text.states)
    return {name: clip[name] + images * image[name] for name in clip}


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

    `here`: the run is to start on this machine, so its mesh, data and features must be there; a plan needs none.
    """
    if config.stage not in ("vae", "dit"):
        raise ConfigError(f"stage={config.stage!r} is not one of vae, dit")
    check_numbers(config)
    tokens_per_clip(config)
    module = registry.load("models", config.vae.name)
    module.latent_shape(vae_config(config), config.data.frames, config.data.height, config.data.width)
    if config.stage == "vae" and config.dtype != "float32":
        raise ConfigError(f"dtype={config.dtype!r}: the autoencoder computes in float32 only")
    if config.stage == "dit":
        model_config(config)
        sampler(config)
    if here:
        pretrained.check(config)
    if hasattr(objective(config), "errors") != (config.stage == "dit"):
        fit = ", ".join(name for name in registry.names("objectives") if (name == "vae") == (config.stage == "vae"))
        raise ConfigError(f"objective.name={config.objective.name!r} does not train stage={config.stage!r}; use {fit}")
    if here and (config.data.name == "latents") != (config.stage == "dit"):
        raise ConfigError(f"data.name={config.data.name!r} does not feed stage={config.stage!r}: a transformer trains"
                          " on latents, which python -m launch.encode makes, an autoencoder on clips")
    check_images(config)
    if (clips := velocity_clips(config)) < 0 or clips and config.stage != "dit":
        raise ConfigError(f"eval.velocity={clips} for stage={config.stage!r}: give a number of clips for a transformer "
                          "to go on from, or 0")
    size = dict(mesh(config).shape) if here else config.mesh
    ways = size["data"] * size["fsdp"]
    if config.train.batch % ways:
        raise ConfigError(f"train.batch={config.train.batch} is not a multiple of mesh.data × mesh.fsdp = {ways}")
    check_schedule(config)
    graph(config)


def check_numbers(config: ConfigDict) -> None:
    """ConfigError for the first number that must be positive and is not, and for windows larger than their clips."""
    for part, names in POSITIVE.items():
        for name in names:
            value = config[part][name]
            if not all(number > 0 for number in (value if isinstance(value, tuple) else (value,))):
                raise ConfigError(f"{part}.{name}={value} must be positive")
    if not 0 <= config.seed < 2**32:
        raise ConfigError(f"seed={config.seed} is out of range; give one in [0, 2^32)")
    if len(config.model.patch) != 3:
        raise ConfigError(f"model.patch={tuple(config.model.patch)} must be three sizes: frames, rows, columns")
    data, seen = config.data, clip_shape(config)
    if any(part > whole for part, whole in zip(seen, (data.frames, data.height, data.width), strict=True)):
        raise ConfigError(f"data.crop_frames={data.crop_frames}, data.crop={data.crop}: windows of {seen} do not fit"
                          f" into clips of {(data.frames, data.height, data.width)}; make them smaller")


def check_images(config: ConfigDict) -> None:
    """ConfigError unless one-frame clips are asked for with a folder of them, for a transformer that can take them."""
    images, path = images_per_clip(config), config.data.get("images", "")
    if images < 0 or bool(images) != bool(path):
        raise ConfigError(f"train.images={images} and data.images={path!r}: give both, how many one-frame clips beside "
                          "each clip and the folder of their latents, or neither")
    if images and config.stage != "dit":
        raise ConfigError(f"train.images={images} is for stage='dit'; an autoencoder learns from windows of clips")
    if images:
        tokens_per_clip(one_frame(config))


def check_schedule(config: ConfigDict) -> None:
    """ConfigError unless the width rule is one, and every annealed point can be reached and really cools down."""
    rule, total = config.optimizer, steps(config)
    if widths.base(rule) and config.stage != "dit":
        raise ConfigError(f"optimizer.widths={rule.widths!r} is for stage='dit'; an autoencoder has no width rule")
    averages.gamma(config.ema.horizon)
    if any(not 0 < point < 1 for point in config.train.branches):
        raise ConfigError(f"train.branches={tuple(config.train.branches)} must be fractions between 0 and 1")
    for end in (*(max(1, round(total * point)) for point in config.train.branches), total):
        optimizer.schedule(rule.lr, total, rule.warmup, rule.cooldown, rule.shape, end)
        if optimizer.cooling(end, rule.cooldown) == end:
            raise ConfigError(f"optimizer.cooldown={rule.cooldown} of the {end} updates to an annealed point is none; "
                              "give more train.clips, a longer cooldown or later train.branches")


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
    counts, dit = param_counts(config), config.stage == "dit"
    width, depth = (config.model.width, config.model.depth) if dit else (
        max(config.vae.decoder), len(config.vae.decoder))
    states, text = config.text.length // config.text.pool, config.text
    images = images_per_clip(config)
    share = tokens_per_clip(one_frame(config)) / tokens_per_clip(config) if images else 0.0
    return Budget.make(
        counts, forward_flops(config), tokens=tokens_per_clip(config), clips=config.train.clips,
        batch=config.train.batch, width=width, depth=depth, mesh=dict(config.mesh), dtype=config.dtype,
        remat=config.model.remat, mlp_ratio=config.model.mlp_ratio, heads=config.model.heads,
        text_tokens=states if dit else 0, single=counts["n_core"] if dit and config.optimizer.muon else 0,
        images=images, image_share=share,
        text=text_elements(states, text.length, text.width, text.depth, text.heads) if dit else 0,
    )
