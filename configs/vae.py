"""The causal video autoencoder on the physics worlds: windows of 9×32×32 cut around the action.

`--config=configs/vae.py:12M` picks a row of `SIZES`, `:8x16x32` a compression of time, height and width, `:12M-8x16x32`
both; `--config.vae.channels` says how many numbers a latent has. With no name it is experiments/000_autoencoder: that
is 3M-4x8x8.
"""
from typing import NamedTuple

from ml_collections import ConfigDict

from configs import base


class Size(NamedTuple):
    """One row: widths and blocks of the stages, heads of the attention in the middle, learning rate. Named after its
    parameters at 4x8x8 and 16 channels. The rates of all but 3M are not tuned."""

    encoder: tuple[int, ...]
    decoder: tuple[int, ...]
    blocks: int = 1
    attention: int = 0
    lr: float = 2e-3


SIZES = {
    "0.2M": Size((16, 24, 32), (24, 28, 44)),
    "0.8M": Size((32, 48, 64), (48, 64, 96)),
    "3M": Size((64, 96, 128), (96, 128, 192)),
    "12M": Size((96, 144, 192), (144, 192, 320), 2, 1, 1e-3),
    "45M": Size((192, 288, 384), (288, 384, 576), 2, 1, 5e-4),
    "127M": Size((288, 448, 576), (448, 576, 896), 3, 1, 3e-4),  # as many as the autoencoder of Wan 2.1, configs/wan.py
}
TIMES = {1: (1, 1), 2: (2, 1), 4: (2, 2), 8: (2, 4)}  # between the stages
SIDES = {4: (4, 1, 1), 8: (4, 2, 1), 16: (4, 2, 2), 32: (8, 2, 2)}  # in front of them and between


def compress(config: ConfigDict, ratio: str) -> ConfigDict:
    """`config` with three stages that compress by `ratio`, such as "8x16x32" for time, height and width, in place."""
    parts = [int(part) if part.isdecimal() else 0 for part in ratio.split("x")]
    if len(parts) != 3 or parts[0] not in TIMES or not set(parts[1:]) <= set(SIDES):
        raise ValueError(f"no compression {ratio!r}; it is TIMExHEIGHTxWIDTH, time of {', '.join(map(str, TIMES))}, "
                         f"height and width of {', '.join(map(str, SIDES))}, such as 4x8x8")
    patch, *space = (high if high == wide else (high, wide)
                     for high, wide in zip(SIDES[parts[1]], SIDES[parts[2]], strict=True))
    config.vae.time, config.vae.space = TIMES[parts[0]], tuple(space)
    with config.vae.ignore_type():
        config.vae.patch = patch
    return config


def resize(config: ConfigDict, name: str) -> ConfigDict:
    """`config` with the autoencoder of row `name` and its learning rate, in place."""
    if name not in SIZES:
        raise ValueError(f"no size {name!r}; there are {', '.join(SIZES)}, then a compression such as -4x8x8")
    size = SIZES[name]
    config.vae.encoder, config.vae.decoder = size.encoder, size.decoder
    config.vae.blocks, config.vae.attention, config.optimizer.lr = size.blocks, size.attention, size.lr
    return config


def get_config(name: str = "") -> ConfigDict:
    """The run of experiments/000_autoencoder, at another size or compression if `name` says one."""
    config = base.get_config()
    config.name = f"vae-{name}" if name else "vae"
    config.stage = "vae"
    config.data.crop, config.data.crop_frames = 32, 9
    config.objective = ConfigDict({"name": "vae", "kind": "l1l2", "kl": 1e-5})
    config.objective.perceptual_weight = 0.0  # of a distance of features, whose weights python -m launch.features gets
    config.objective.temporal_weight = 0.0  # of the error of the change from frame to frame
    config.objective.critic_weight = 0.0  # of a critic of clips, times its adaptive weight
    config.objective.perceptual_from = config.objective.temporal_from = 0.0  # fraction of the run where a term starts
    config.objective.critic_from, config.objective.critic_lead = 0.0, 0.05  # the critic itself learns so much earlier
    config.optimizer.lr = 2e-3
    config.train.clips, config.train.batch = 40_000, 16
    config.eval.clips = 128
    size, _, ratio = name.partition("-") if "x" not in name.partition("-")[0] else ("", "", name)
    if size:
        resize(config, size)
    return compress(config, ratio) if ratio else config
