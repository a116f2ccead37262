"""Procedural physics clips: exact motion, rendered on demand, captioned by a grammar, with full ground truth.

Clip i is a pure function of (config, i); the scene depends on (seed, split, i) and the families alone, so one index is
one physical event at every frame rate, frame count above one and resolution.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from sora_jax.types import Clip, ConfigError, Truth
from sora_jax.worlds import palette, sampling
from sora_jax.worlds.caption import LANGUAGES, STYLES
from sora_jax.worlds.clips import Stream
from sora_jax.worlds.families import COUNTS


@dataclass(frozen=True)
class Config:
    """What to draw. `seconds` is the horizon of the events, whatever frames and fps; `size` the number of clips."""

    frames: int = 17
    height: int = 64
    width: int = 64
    fps: float = 8.0
    families: tuple[str, ...] = ("uniform", "bounce", "composition")
    weights: tuple[float, ...] = ()
    seed: int = 0
    split: str = "train"
    language: str = "en"
    caption: str = "short"
    counts: tuple[int, ...] = COUNTS  # objects of a composition, each number as likely
    colours: tuple[str, ...] = ()  # names, each as likely as the next; empty: the eight of the palette
    size: int = 10**9
    seconds: float = 2.0
    aspect: float = 0.0  # of the world, of which the middle is shown; 0: of the frame


def _check(config: Config) -> None:
    if config.split not in palette.SPLITS:
        raise ConfigError(f"split={config.split!r} is not one of {', '.join(palette.SPLITS)}")
    if config.language not in (*LANGUAGES, "both"):
        raise ConfigError(f"language={config.language!r} is not one of {', '.join(LANGUAGES)}, both")
    if config.caption not in (*STYLES, "both"):
        raise ConfigError(f"caption={config.caption!r} is not one of {', '.join(STYLES)}, both")
    for name in ("frames", "height", "width", "fps", "size", "seconds"):
        if getattr(config, name) <= 0:
            raise ConfigError(f"{name}={getattr(config, name)} must be positive")
    if not config.counts or any(count not in (1, 2, 3) for count in config.counts):
        raise ConfigError(f"counts={config.counts} must be one or more of 1, 2 and 3")
    if config.aspect and config.aspect < config.width / config.height:
        raise ConfigError(f"aspect={config.aspect:g} of the world is less than that of the frame, {config.width}:"
                          f"{config.height}; give a wider world, or 0 for one that the frame shows whole")
    if config.seed < 0:
        raise ConfigError(f"seed={config.seed} must not be negative")


class Physics:
    """A random-access source of clips. Cheap to make and to pickle."""

    def __init__(self, config: Config):
        _check(config)
        self.config = config
        names, cumulative = sampling.family_table(config.families, config.weights, config.split)
        sampling.check_colours(config.colours, names, config.split)
        shown = config.width / config.height
        aspect = config.aspect or shown
        self._view = (0.0, (aspect - shown) / 2, 1.0)
        self._stream = Stream(
            names,
            tuple(cumulative.tolist()),
            config.seed,
            config.split,
            config.frames,
            config.fps,
            aspect,
            config.seconds,
            config.language,
            config.caption,
            counts=tuple(config.counts),
            colours=tuple(config.colours),
        )

    def __len__(self) -> int:
        return self.config.size

    def describe(self, index: int) -> tuple[Truth, str]:
        """Truth and caption of a clip, without drawing it."""
        self._check_index(index)
        return self._stream.clip(index)

    def batch(
        self, indices: Sequence[int], window: tuple[float, float, float] | None = None
    ) -> tuple[UInt8[np.ndarray, "b f h w c"], list[str], list[Truth]]:
        """Clips drawn in one compiled call, their captions and truths. `window`: y, x, extent in frame heights, of
        the world; None: what the config shows of it. Truths are of the whole world: what is in view there may lie
        outside of the frame."""
        for index in indices:
            self._check_index(index)
        return self._stream.batch(indices, self.config.height, self.config.width, window or self._view)

    def _check_index(self, index: int) -> None:
        if not 0 <= index < self.config.size:
            raise IndexError(f"clip {index} of a source of {self.config.size}")

    def __getitem__(self, index: int) -> Clip:
        video, captions, truths = self.batch([index])
        return Clip(video[0], captions[0], self.config.fps, truths[0])


def source(config: Config) -> Physics:
    """The clips of a config. Raises ConfigError for a split, family, language or size that cannot be."""
    return Physics(config)
