"""Physics clips written once to disk and read back: a TFDS builder, `PhysicsWorlds`, and a source over what it wrote.

ArrayRecord files, no TensorFlow. `PhysicsWorlds(config="uniform_64", data_dir=...).download_and_prepare()` writes
`<data_dir>/physics_worlds/<config>/<version>`; `source(Config(path=<that folder>))` gives the same clips and truths.
"""

import dataclasses
import json
import pathlib

import numpy as np
import tensorflow_datasets as tfds

from sora_jax.types import Clip, ConfigError, InputError, Truth
from sora_jax.worlds import palette, sampling
from sora_jax.worlds.clips import Stream

ARRAYS = ("position", "velocity", "radius", "colour", "shape", "visible", "whole", "times")
CHUNK = 25  # clips drawn at once


@dataclasses.dataclass(frozen=True)
class Config:
    """A prepared folder (the one that holds dataset_info.json) and one of its splits."""

    path: str
    split: str = "train"


class Prepared:
    """Random access to the clips of one split."""

    def __init__(self, config: Config):
        if not (pathlib.Path(config.path) / "dataset_info.json").is_file():
            raise InputError(f"{config.path}: no dataset_info.json; prepare a PhysicsWorlds dataset or fix the path")
        builder = tfds.builder_from_directory(config.path)
        if config.split not in builder.info.splits:
            raise ConfigError(
                f"split={config.split!r} is not in {config.path}; it has {', '.join(builder.info.splits)}"
            )
        self._clips = builder.as_data_source(split=config.split)

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> Clip:
        record = self._clips[index]
        details = json.loads(record["details"])
        for name in ("slab", "camera"):
            details[name] = tuple(details[name]) if details[name] else None
        for event in details["events"]:
            event["objects"] = tuple(event["objects"])
        truth = details | {name: record[name] for name in ARRAYS}
        return Clip(record["video"], record["caption"].decode(), float(record["fps"]), truth)


def source(config: Config) -> Prepared:
    """The clips of a prepared split. Raises InputError for a folder that is none, ConfigError for a missing split."""
    return Prepared(config)


EVERY = tuple(sampling.FAMILIES)
CLIPS = tuple((split, 10_000 if split == "train" else 500) for split in palette.SPLITS)


@dataclasses.dataclass(eq=False)
class WorldsConfig(tfds.core.BuilderConfig):
    """What a named configuration draws; `clips` are the sizes of its splits."""

    families: tuple[str, ...] = ("uniform",)
    height: int = 64
    width: int = 64
    frames: int = 17
    fps: float = 8.0
    seconds: float = 2.0
    seed: int = 0
    language: str = "en"
    style: str = "short"
    clips: tuple[tuple[str, int], ...] = CLIPS


class PhysicsWorlds(tfds.core.GeneratorBasedBuilder):
    """Exact procedural physics with captions and ground truth."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = [
        WorldsConfig(name="uniform_32", description="One object, uniform motion.", height=32, width=32),
        WorldsConfig(name="uniform_64", description="One object, uniform motion."),
        WorldsConfig(name="every_64", description="All families, two languages.", families=EVERY, language="both"),
        WorldsConfig(
            name="smoke",
            description="A few small clips for tests.",
            families=EVERY,
            height=16,
            width=24,
            frames=5,
            fps=2.5,
            style="both",
            clips=(("train", 6), ("val", 2)),
        ),
    ]

    def __init__(self, *, file_format="array_record", **fields):
        super().__init__(file_format=file_format, **fields)

    def _info(self) -> tfds.core.DatasetInfo:
        config, features = self.builder_config, tfds.features

        def array(shape, dtype):
            return features.Tensor(shape=shape, dtype=dtype, encoding="bytes")

        f, k = config.frames, palette.K
        return tfds.core.DatasetInfo(
            builder=self,
            description="Procedural physics clips: exact motion, captions from a grammar, ground truth.",
            features=features.FeaturesDict(
                {
                    "video": array((f, config.height, config.width, 3), np.uint8),
                    "caption": features.Text(),
                    "fps": np.float32,
                    "details": features.Text(),
                    "position": array((f, k, 2), np.float32),
                    "velocity": array((f, k, 2), np.float32),
                    "radius": array((k,), np.float32),
                    "colour": array((k,), np.int32),
                    "shape": array((k,), np.int32),
                    "visible": array((f, k), np.bool_),
                    "whole": array((f, k), np.bool_),
                    "times": array((f,), np.float64),
                }
            ),
            metadata=tfds.core.MetadataDict(dataclasses.asdict(config)),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split, clips) for split, clips in self.builder_config.clips}

    def _generate_examples(self, split: str, clips: int):
        config = self.builder_config
        names, cumulative = sampling.family_table(config.families, (), split)
        stream = Stream(
            names, tuple(cumulative.tolist()), config.seed, split, config.frames, config.fps,
            config.width / config.height, config.seconds, config.language, config.style,
        )  # fmt: skip
        for start in range(0, clips, CHUNK):
            indices = range(start, min(start + CHUNK, clips))
            for index, *clip in zip(indices, *stream.batch(indices, config.height, config.width), strict=True):
                yield index, _record(*clip, config.fps)


def _record(video, caption: str, truth: Truth, fps: float) -> dict:
    """A clip as TFDS features: arrays as they are, everything else as JSON."""
    details = {name: value for name, value in truth.items() if name not in ARRAYS}
    return {"video": video, "caption": caption, "fps": fps, "details": json.dumps(details)} | {
        n: truth[n] for n in ARRAYS
    }
