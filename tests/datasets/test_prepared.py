"""What `PhysicsWorlds` writes is what the physics source draws, truth included."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from sora_jax.datasets import physics, prepared
from sora_jax.types import ConfigError, InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    tfds.disable_progress_bar()
    builder = prepared.PhysicsWorlds(config="smoke", data_dir=str(tmp_path_factory.mktemp("tfds")))
    builder.download_and_prepare()
    return str(builder.data_dir)


@pytest.mark.parametrize("split, clips", [("train", 6), ("val", 2)])
def test_the_round_trip_is_exact(folder, split, clips):
    drawn = physics.source(
        physics.Config(frames=5, height=16, width=24, fps=2.5, families=prepared.EVERY, caption="both", split=split)
    )
    read = prepared.source(prepared.Config(folder, split))
    assert len(read) == clips
    videos, captions, truths = drawn.batch(range(clips))
    for index in range(clips):
        clip = read[index]
        np.testing.assert_array_equal(clip.video, videos[index])
        assert clip.caption == captions[index] and clip.fps == 2.5
        np.testing.assert_equal(clip.truth, truths[index])


def test_a_wrong_folder_or_split_is_said_in_one_line(folder, tmp_path):
    with pytest.raises(InputError, match="dataset_info.json"):
        prepared.source(prepared.Config(str(tmp_path)))
    with pytest.raises(ConfigError, match="train, val"):
        prepared.source(prepared.Config(folder, "test"))


def test_every_named_config_describes_itself(tmp_path):
    for config in prepared.PhysicsWorlds.BUILDER_CONFIGS:
        builder = prepared.PhysicsWorlds(config=config.name, data_dir=str(tmp_path))
        assert builder.info.features["video"].shape == (config.frames, config.height, config.width, 3)
