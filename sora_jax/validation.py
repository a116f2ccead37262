"""What can be wrong with a config, found before anything compiles.

Enters: a config. Leaves: nothing, or a one-line ConfigError that names the field and the cure.
"""
import jax
from ml_collections import ConfigDict

from sora_jax import adapted, build, generate, pretrained, registry
from sora_jax.train import ema as averages
from sora_jax.train import optimizer, widths
from sora_jax.types import ConfigError

POSITIVE = {
    "data": ("frames", "height", "width", "fps"), "text": ("width", "heads", "length", "pool"),
    "vae": ("patch", "time", "space", "encoder", "decoder", "blocks", "channels"),
    "model": ("width", "depth", "heads", "patch", "mlp_ratio"), "sampler": ("steps",), "train": ("clips", "batch"),
    "eval": ("clips", "times"),
}


def validate(config: ConfigDict, here: bool = True) -> None:
    """Everything that can be wrong before a compile. Raises ConfigError naming the field and the cure.

    `here`: the run is to start on this machine, so its mesh, data and features must be there; a plan needs none.
    """
    if config.stage not in ("vae", "dit"):
        raise ConfigError(f"stage={config.stage!r} is not one of vae, dit")
    check_numbers(config)
    build.tokens_per_clip(config)
    build.whole_latent_shape(config)
    if config.stage == "vae" and config.dtype != "float32":
        raise ConfigError(f"dtype={config.dtype!r}: the autoencoder computes in float32 only")
    if config.stage == "dit":
        build.model_config(config)
        check_sampler(config)
    if here:
        pretrained.check(config)
    if hasattr(registry.load("objectives", config.objective.name).Objective, "errors") != (config.stage == "dit"):
        fit = ", ".join(name for name in registry.names("objectives") if (name == "vae") == (config.stage == "vae"))
        raise ConfigError(f"objective.name={config.objective.name!r} does not train stage={config.stage!r}; use {fit}")
    build.objective(config)
    if here and (config.data.name == "latents") != (config.stage == "dit"):
        raise ConfigError(f"data.name={config.data.name!r} does not feed stage={config.stage!r}: a transformer trains"
                          " on latents, which python -m launch.encode makes, an autoencoder on clips")
    check_images(config)
    check_critic(config)
    check_rows(config)
    check_frames(config)
    check_lora(config, here)
    if (clips := build.velocity_clips(config)) < 0 or clips and config.stage != "dit":
        raise ConfigError(f"eval.velocity={clips} for stage={config.stage!r}: give a number of clips for a transformer "
                          "to go on from, or 0")
    if clips and config.text.name == "given":
        raise ConfigError(f"eval.velocity={clips} asks with captions that have no states; set it to 0, or train with "
                          "text.name='text'")
    size = dict(build.mesh(config).shape) if here else config.mesh
    ways = size["data"] * size["fsdp"]
    if config.train.batch % ways:
        raise ConfigError(f"train.batch={config.train.batch} is not a multiple of mesh.data × mesh.fsdp = {ways}")
    check_schedule(config)
    build.graph(config)


def check_numbers(config: ConfigDict) -> None:
    """ConfigError for the first number that must be positive and is not, and for windows larger than their clips."""
    for part, names in POSITIVE.items():
        for name in names:
            value = config[part][name]
            if not all(number > 0 for number in jax.tree.leaves(value)):
                raise ConfigError(f"{part}.{name}={value} must be positive")
    if not 0 <= config.seed < 2**32:
        raise ConfigError(f"seed={config.seed} is out of range; give one in [0, 2^32)")
    if len(config.model.patch) != 3:
        raise ConfigError(f"model.patch={tuple(config.model.patch)} must be three sizes: frames, rows, columns")
    data, seen = config.data, build.clip_shape(config)
    if any(part > whole for part, whole in zip(seen, (data.frames, data.height, data.width), strict=True)):
        raise ConfigError(f"data.crop_frames={data.crop_frames}, data.crop={data.crop}: windows of {seen} do not fit"
                          f" into clips of {(data.frames, data.height, data.width)}; make them smaller")


def check_sampler(config: ConfigDict) -> None:
    """ConfigError unless there is such a sampler and it can walk such a grid with such guidance."""
    how = build.sampling(config)
    generate.check(build.sampler(config), how["steps"], how["grid"], how["eta"], how["rule"],
                   how["known_noise"], how["lag"])


def check_images(config: ConfigDict) -> None:
    """ConfigError unless one-frame clips are asked for with a folder of them, for a transformer that can take them."""
    images, path = build.images_per_clip(config), config.data.get("images", "")
    if images < 0 or bool(images) != bool(path):
        raise ConfigError(f"train.images={images} and data.images={path!r}: give both, how many one-frame clips beside "
                          "each clip and the folder of their latents, or neither")
    if images and config.stage != "dit":
        raise ConfigError(f"train.images={images} is for stage='dit'; an autoencoder learns from windows of clips")
    if images:
        build.tokens_per_clip(build.one_frame(config))


def check_frames(config: ConfigDict) -> None:
    """ConfigError if latent frames have times of their own and captions are tokens, which have none."""
    if config.stage == "dit" and config.objective.get("levels") == "frame" and (
            config.model.get("text") in ("joint", "prefix") or config.model.patch[0] > 1):
        raise ConfigError("objective.levels='frame' needs model.text=cross or none and one latent frame a token, not "
                          f"model.text={config.model.get('text')!r} and model.patch={tuple(config.model.patch)}")


def check_rows(config: ConfigDict) -> None:
    """ConfigError unless rows are of a transformer, hold the clips of data.path, and stand alone."""
    (tokens, most), native = build.row(config), config.data.get("native", ())
    if not tokens:
        if native:
            raise ConfigError(f"data.native={tuple(native)}: clips of several sizes are trained on in rows; give "
                              "train.pack_tokens, the tokens of one")
        return
    if config.stage != "dit":
        raise ConfigError(f"train.pack_tokens={tokens} is for stage='dit'; an autoencoder learns from windows")
    if tokens < build.tokens_per_clip(config) or most < 1:
        raise ConfigError(f"train.pack_tokens={tokens}, train.pack_clips={most}: a row must take a clip of data.path, "
                          f"which has {build.tokens_per_clip(config)} tokens")
    rule = config.objective
    if rule.get("levels", "two") != "two" or rule.get("known_noise", 0.0):
        raise ConfigError(f"objective.levels={rule.levels!r}, objective.known_noise={rule.known_noise} with "
                          f"train.pack_tokens={tokens}: packed clips have two levels and clean known tokens; set them "
                          "to 'two' and 0, or do without rows")
    if build.images_per_clip(config):
        raise ConfigError(f"train.images={config.train.images} with train.pack_tokens={tokens}: pictures are packed "
                          "like other clips; give their folder in data.native, and train.images=0")


def check_critic(config: ConfigDict) -> None:
    """ConfigError unless a critic is of an autoencoder, can be built, and sees whole cells of its clips."""
    if not build.critic_weighs(config):
        return
    if config.stage != "vae":
        raise ConfigError(f"objective.critic_weight={config.objective.critic_weight} is for stage='vae'; a transformer "
                          "has no critic")
    for part, name in (("critic", "patch"), ("critic", "width"), ("critic", "depth"), ("optimizer", "critic")):
        if not config[part][name] > 0:
            raise ConfigError(f"{part}.{name}={config[part][name]} must be positive")
    if not 0 <= config.optimizer.critic_beta1 < 1:
        raise ConfigError(f"optimizer.critic_beta1={config.optimizer.critic_beta1} is not the share of an "
                          "average; give one in [0, 1)")
    build.critic_flops(config)


def check_lora(config: ConfigDict, here: bool) -> None:
    """ConfigError unless adapters are of a transformer, beside weights that are named, on layers that it has."""
    rank = build.lora_rank(config)
    if not rank:
        return
    if config.stage != "dit":
        raise ConfigError(f"lora.rank={rank} is for stage='dit'; an autoencoder has no adapters")
    if here and not config.train.start:
        raise ConfigError(f"lora.rank={rank} without train.start: name the weights that the adapters are beside")
    if widths.base(config.optimizer):
        raise ConfigError(f"optimizer.widths={config.optimizer.widths!r} has no rule for adapters (lora.rank={rank}); "
                          "set it to 'none'")
    adapted.count(config)


def check_schedule(config: ConfigDict) -> None:
    """ConfigError unless the width rule is one, and every annealed point can be reached and really cools down."""
    rule, total = config.optimizer, build.steps(config)
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
