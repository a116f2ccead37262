"""The causal video autoencoder on real films, those that `python -m launch.films` gets: it learns from the first half
of each and is tried on the second."""
from ml_collections import ConfigDict

from configs import vae


def get_config() -> ConfigDict:
    """Windows of 9×64×64 out of clips of 33 frames at 128×128, from the weights of experiment 006 on."""
    config = vae.get_config()
    config.name = "films"
    config.data.name, config.data.path = "videos", "runs/films"
    config.data.frames, config.data.height, config.data.width, config.data.fps = 33, 128, 128, 25.0
    config.data.span, config.data.held_span = (0.0, 0.5), (0.5, 1.0)
    config.data.windows = 5  # at most 23 frames apart: every run of 9 frames lies within one of them
    config.data.crop, config.data.crop_frames = 64, 9
    config.train.start = "experiments/006_sharp_autoencoder"
    config.train.clips, config.train.batch = 20_000, 8
    config.optimizer.lr, config.optimizer.muon = 1e-3, 10.0
    config.eval.clips = 15  # all that is held out of three films
    return config


def long(start: str) -> ConfigDict:
    """From the weights of such a run on, on windows as long as the clips, which decode as they are: 33×48×48."""
    config = get_config()
    config.name = "films-long"
    config.data.windows, config.eval.clips = 16, 48
    config.data.crop, config.data.crop_frames = 48, 33
    config.data.cache = 2**29
    config.objective.kind = "l2"
    config.train.start = start
    config.train.clips, config.train.batch = 8_000, 4
    return config


def zoom(start: str) -> ConfigDict:
    """From the weights of such a long run on, on crops of all sizes from anywhere in the pictures."""
    config = long(start)
    config.name = "films-zoom"
    config.data.fit, config.data.windows, config.data.cache = "zoom", 48, 2**30
    config.eval.clips, config.train.clips = 144, 6_000
    return config


def shots() -> ConfigDict:
    """From the weights of experiment 006 on, on crops of all sizes from the first half of each shot: clips of 13
    frames, the longest that fit into half of the shortest shot, in windows of 13×64×64."""
    config = get_config()
    config.name = "films-shots"
    config.data.manifest = "experiments/008_real_clips/shots.csv"
    config.data.frames, config.data.crop_frames = 13, 13
    config.data.fit, config.data.windows, config.data.cache = "zoom", 32, 2**29
    config.objective.kind = "l2"
    config.train.clips, config.eval.clips = 16_000, 7 * 32
    config.train.evaluate = 0.25
    return config


def whole_shots(start: str) -> ConfigDict:
    """From the weights of such a run on, on the shots as they are scored: cut to the middle, the whole height."""
    config = shots()
    config.name = "films-shots-whole"
    config.data.fit = "center"
    config.train.start, config.train.clips, config.train.evaluate = start, 11_200, 1.0
    config.optimizer.cooldown = 0.5
    return config
