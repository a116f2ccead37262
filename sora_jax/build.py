"""Config → objects. The only reader of ConfigDict in the package; everything below takes plain values.

Each function makes one kind of object; what can be wrong with a config is found in `validation`.
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

from sora_jax import lora, pretrained, registry
from sora_jax import mesh as meshes
from sora_jax.diffusion import joint
from sora_jax.diffusion.guidance import Guidance
from sora_jax.train import ema as averages
from sora_jax.train import widths
from sora_jax.types import ConfigError


def section(config: ConfigDict | Mapping[str, Any], name: str, cls, **given: Any):
    """The dataclass `cls` from the fields of `config.<name>` that it has; `given` come from elsewhere in the config."""
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in config[name].items()}
    fields = {field.name for field in dataclasses.fields(cls)}
    return cls(**{key: v for key, v in values.items() if key in fields} | given)


def vae_config(config: ConfigDict):
    """The autoencoder's own config."""
    return section(config, "vae", registry.load("models", config.vae.name).Config)


def model_config(config: ConfigDict):
    """The (transformer, text encoder) configs; channels and caption width come from their own sections."""
    text = section(config, "text", registry.load("models", config.text.name).Config)
    dit = registry.load("models", config.model.name)
    places = row(config)[0] or tokens_per_clip(config)
    learned = {"length": places} if config.model.get("positions") == "learned" else {}
    return section(config, "model", dit.Config, channels=config.vae.channels, text_width=config.text.width,
                   dtype=config.dtype, **learned), text


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


def learner(config: ConfigDict, key: jax.Array | int = 0) -> nnx.Module:
    """What an update changes: the model, with the weights of `make`, and a critic if the objective has one; with
    `lora.rank` what it changes are the adapters alone."""
    model = make(config, key)
    if critic_weighs(config):
        kind = registry.load("models", config.critic.name)
        model.critic = kind.build(critic_config(config), rngs=nnx.Rngs(nnx.Rngs(key)()))
    if lora_rank(config):
        rule = config.lora
        model = lora.attach(model, tuple(rule.targets), rule.rank, rule.alpha, nnx.Rngs(nnx.Rngs(key)()))
    return model


def lora_rank(config: ConfigDict) -> int:
    """Rank of the adapters that are trained in the place of the weights; 0, as in configs from before them: none."""
    return config.get("lora", {}).get("rank", 0)


def graph(config: ConfigDict) -> tuple[nnx.GraphDef, dict]:
    """The model's structure and its weights as a pure dict of shapes; nothing is allocated."""
    with nnx.use_eager_sharding(False):
        definition, params = nnx.split(nnx.eval_shape(functools.partial(make, config)))
    return definition, nnx.to_pure_dict(params)


def model(config: ConfigDict, params: dict, origin: str = "") -> nnx.Module:
    """The model with these weights. Raises ConfigError naming the first weight that is missing, extra or misshapen,
    after the words that say where they come from."""
    definition, shapes = graph(config)
    trees = (traverse_util.flatten_dict(nnx.restore_int_paths(tree)) for tree in (shapes, params))
    want, have = ({"/".join(map(str, path)): leaf for path, leaf in tree.items()} for tree in trees)
    for name in sorted(set(want) | set(have)):
        if name not in have or name not in want:
            where = "missing from the weights" if name in want else "not in the model of the config"
            raise ConfigError(f"{origin}weight {name} is {where}")
        if want[name].shape != have[name].shape:
            raise ConfigError(f"{origin}weight {name} is {have[name].shape}, the config asks for {want[name].shape}")
    return nnx.merge(definition, nnx.State(nnx.restore_int_paths(params)))


def objective(config: ConfigDict):
    """What the run minimises."""
    kind = registry.load("objectives", config.objective.name).Objective
    given = {"steps": steps(config)} if config.objective.name == "vae" else {}
    return section(config, "objective", kind, **given, **pretrained.term(config))


def training_objective(config: ConfigDict):
    """What an update minimises: the objective, or its mean over clips and one-frame clips."""
    return joint.Joint(objective(config)) if images_per_clip(config) else objective(config)


def sampler(config: ConfigDict):
    """The sampler's module, with its `sample` function."""
    return registry.load("samplers", config.sampler.name)


def sampling(config: ConfigDict) -> dict[str, Any]:
    """How the sampler walks and is guided, as `generate` takes it (older configs had less to choose)."""
    rule = config.sampler
    return {"steps": rule.steps, "guidance": rule.guidance, "shift": rule.shift, "grid": rule.get("grid", "shifted"),
            "eta": rule.get("eta", 0.0), "known_noise": rule.get("known_noise", 0.0), "lag": rule.get("lag", 0),
            "rule": section(config, "sampler", Guidance)}


def ema(config: ConfigDict):
    """The average of the weights that is evaluated and kept."""
    return averages.Power(config.ema.horizon)


def mesh(config: ConfigDict):
    """The device mesh. ConfigError if it is larger than the machine."""
    return meshes.make(**config.mesh)


def images_per_clip(config: ConfigDict) -> int:
    """One-frame clips that an update sees beside each clip (0 in configs from before there were any)."""
    return config.train.get("images", 0)


def critic_weighs(config: ConfigDict) -> bool:
    """Whether the objective has a critic (configs from before there were any have none)."""
    return bool(config.objective.get("critic_weight", 0.0))


def critic_config(config: ConfigDict):
    """The critic's own config."""
    return section(config, "critic", registry.load("models", config.critic.name).Config, conv=config.vae.conv)


def velocity_clips(config: ConfigDict) -> int:
    """Clips of uniform motion that annealed weights go on from (0 in configs from before there were any)."""
    return config.eval.get("velocity", 0)


def row(config: ConfigDict) -> tuple[int, int]:
    """Tokens of a packed row and the clips that it holds at most; (0, 0) where clips are not packed."""
    tokens = config.train.get("pack_tokens", 0)
    return (tokens, config.train.pack_clips) if tokens else (0, 0)


def at(config: ConfigDict, path: str) -> ConfigDict:
    """The config with another folder of data."""
    return ConfigDict({**config, "data": {**config.data, "path": path}})


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
        text = str(error).replace("data.height", "data.crop").replace("data.width", "data.crop")
        text = text.replace("data.frames", "data.crop_frames") if config.data.crop_frames else text
        raise ConfigError(text) from error


def whole_latent_shape(config: ConfigDict) -> tuple[int, int, int, int]:
    """Latents of a whole clip. ConfigError if the autoencoder cannot compress it."""
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
    return int(np.prod(layout(config)))


def layout(config: ConfigDict) -> tuple[int, int, int]:
    """Tokens of one clip along frames, rows and columns, where the patch divides its latents."""
    return tuple(size // part for size, part in zip(latent_shape(config)[:3], config.model.patch, strict=True))


def levels(config: ConfigDict) -> int:
    """Noise levels of one training clip: that of its known tokens, and one for all others or for each latent frame."""
    return 1 + (latent_shape(config)[0] if config.objective.get("levels", "two") == "frame" else 1)


def forward_flops(config: ConfigDict) -> dict[str, int]:
    """Forward FLOPs of one training clip, and of the one-frame clips beside it, or of one packed row, by group, exact
    and analytic."""
    if config.stage == "vae":
        module, seen = registry.load("models", config.vae.name), clip_shape(config)
        return module.flops(vae_config(config), *seen) | pretrained.flops(config, *seen) | critic_flops(config)
    dit, text = model_config(config)
    flops, images = registry.load("models", config.model.name).flops, images_per_clip(config)
    tokens, most = row(config)
    if tokens:  # of a row, which costs as much however full it is
        return flops(dit, text, tokens, levels=2 * most, captions=most)
    clip = flops(dit, text, tokens_per_clip(config), text.states, layout=layout(config), levels=levels(config))
    if not images:
        return clip
    still = one_frame(config)
    image = flops(dit, text, tokens_per_clip(still), text.states, layout=layout(still), levels=levels(still))
    return {name: clip[name] + images * image[name] for name in clip}


def critic_flops(config: ConfigDict) -> dict[str, int]:
    """A third of the critic's FLOPs in an update, for one clip: three passes on the clip, and on its reconstruction one
    forward, two back for the critic's own loss and one back to the pixels."""
    if not critic_weighs(config):
        return {}
    one = registry.load("models", config.critic.name).flops(critic_config(config), *clip_shape(config))
    return {name: 7 * value // 3 for name, value in one.items()}


def critic_params(config: ConfigDict) -> int:
    """Parameters that are trained beside the model and not kept."""
    if not critic_weighs(config):
        return 0
    shapes = nnx.eval_shape(lambda: learner(config).critic)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def param_counts(config: ConfigDict) -> dict[str, int]:
    """Parameters by group; the groups sum to the total."""
    _, shapes = graph(config)
    if config.stage == "vae":
        return {name: sum(leaf.size for leaf in jax.tree.leaves(tree)) for name, tree in shapes.items()}
    return registry.load("models", config.model.name).params_by_group(shapes)


def steps(config: ConfigDict) -> int:
    """Updates of the whole run."""
    return max(1, config.train.clips // config.train.batch)


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
