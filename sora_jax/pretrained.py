"""Features of a published classifier: where its weights lie, whether they are the right ones, and a loss made of them.

Enters: the file that `python -m launch.features` puts into `PATH`. Leaves: a `models.features` network, or the feature
distance of two batches of clips for `objectives.vae`. Nothing is fetched here.
"""
import dataclasses
import functools
import hashlib
from pathlib import Path

import jax
import numpy as np
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float, UInt8
from ml_collections import ConfigDict

from sora_jax import registry, torch_file, video
from sora_jax.evals import perceptual
from sora_jax.types import ConfigError, InputError

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
PATH = Path(__file__).resolve().parents[1] / "runs" / "features" / "efficientnet-lite0-57934424.pth"
COMMAND = "python -m launch.features"
STAGES = 5  # maps that distances compare: sides of 1/2 to 1/16 of the frame's


def checked(path: Path) -> Path:
    """The path itself if the file is whole. Raises InputError with the command that gets it."""
    if not path.is_file():
        raise InputError(f"no feature weights at {path}; get them with {COMMAND}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise InputError(f"{path} is not the published file (its sha256 differs); get it again with {COMMAND}")
    return path


def available() -> bool:
    """Whether the weights lie where they should."""
    return PATH.is_file()


def features(path: Path | None = None) -> nnx.Module:
    """The network with the published weights, from `PATH` unless told otherwise. Raises InputError if they are missing
    or damaged."""
    return loaded(PATH if path is None else path)


@functools.lru_cache
def loaded(path: Path) -> nnx.Module:
    """The network with the weights of a file, read once."""
    arrays = torch_file.read(checked(path))
    with jax.ensure_compile_time_eval():  # the first call may come from inside a loss that is being traced
        try:
            return registry.load("models", "features").from_arrays(arrays)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


def _maps(graph, params, frames):
    return nnx.merge(graph, params).maps(video.to_float(frames), STAGES - 1)


maps_step = jax.jit(_maps, static_argnums=0)


def maps(network: nnx.Module, frames: UInt8[np.ndarray, "b h w 3"]) -> list[Float[Array, "b _h _w _d"]]:
    """Feature maps of frames after the first `STAGES` stages."""
    return maps_step(*nnx.split(network), frames)


@dataclasses.dataclass(frozen=True)
class Distance:
    """The mean feature distance of two batches of clips in [-1, 1], frame by frame; any two of its kind are equal."""

    stages: int = STAGES

    def __call__(self, x: Float[Array, "b f h w 3"], y: Float[Array, "b f h w 3"]) -> Float[Array, ""]:
        seen = (features().maps(rearrange(clips, "b f h w c -> (b f) h w c"), self.stages - 1) for clips in (x, y))
        return perceptual.distance(*seen).mean()


def weighs(config: ConfigDict) -> bool:
    """Whether the objective of a run has a feature distance (configs from before there was one have none)."""
    return config.objective.name == "vae" and bool(config.objective.get("perceptual_weight", 0.0))


def check(config: ConfigDict) -> None:
    """ConfigError if the objective needs the weights and they are not there, or not right."""
    if weighs(config):
        try:
            checked(PATH)
        except InputError as error:
            raise ConfigError(f"objective.perceptual_weight={config.objective.perceptual_weight}: {error}") from error


def term(config: ConfigDict) -> dict[str, Distance]:
    """What the objective is given besides its own section."""
    return {"perceptual": Distance()} if weighs(config) else {}


def flops(config: ConfigDict, frames: int, height: int, width: int) -> dict[str, int]:
    """FLOPs of the features of one clip. An update sees the clip once, its reconstruction once, and goes back to the
    pixels of the latter once: three times this, as many as a trained layer's forward FLOPs count for."""
    if not weighs(config):
        return {}
    module = registry.load("models", "features")
    one = module.flops(module.Config(), height, width, STAGES - 1)
    return {name: frames * value for name, value in one.items()}
