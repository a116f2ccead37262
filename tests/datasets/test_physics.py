"""The physics source: random access, batches, windows, one physical event per index, errors in words."""

import pickle

import numpy as np
import pytest

from sora_jax.datasets.physics import Config, source
from sora_jax.types import ConfigError

WORDS = (("en", "short"), ("zh", "dense"))
SMALL = Config(frames=3, height=24, width=32, fps=2.0, families=("uniform", "pan", "collision"), language="both")


def test_items_are_those_of_a_batch_and_of_a_second_source():
    videos, captions, truths = source(SMALL).batch([5, 2, 900_000_000])
    again = pickle.loads(pickle.dumps(source(SMALL)))
    for place, index in enumerate([5, 2, 900_000_000]):
        clip = again[index]
        assert clip.video.shape == (3, 24, 32, 3) and clip.video.dtype == np.uint8
        assert np.abs(clip.video.astype(int) - videos[place]).max() <= 1
        assert clip.caption == captions[place] and clip.fps == 2.0
        np.testing.assert_equal(clip.truth, truths[place])
        assert again.describe(index)[1] == captions[place]


def test_compositions_have_as_many_objects_as_they_are_asked():
    for counts in ((3,), (1, 2)):
        config = Config(**{**SMALL.__dict__, "families": ("composition",), "counts": counts})
        assert {source(config).describe(index)[0]["count"] for index in range(20)} == set(counts)
    with pytest.raises(ConfigError, match="counts="):
        source(Config(counts=(4,)))


def test_the_words_do_not_change_the_scene():
    for index in range(20):
        scenes = [source(Config(language=language, caption=style)).describe(index)[0] for language, style in WORDS]
        np.testing.assert_equal(*scenes)


def test_a_batch_can_be_a_window():
    whole, window = source(SMALL).batch([1])[0], source(SMALL).batch([1], (0.25, 0.5, 0.5))[0]
    fine = source(Config(**{**SMALL.__dict__, "height": 48, "width": 64})).batch([1])[0]
    assert whole.shape == window.shape
    assert np.abs(window.astype(int) - fine[:, :, 12:36, 24:56]).max() <= 1


def test_a_wider_world_is_cropped_to_its_middle():
    """A square crop of a wide world: the same captions, the middle of the same pixels."""
    wide = Config(**{**SMALL.__dict__, "width": 48})
    square = Config(**{**SMALL.__dict__, "width": 24, "aspect": 2.0})
    (whole, words, truths), (middle, same, again) = source(wide).batch([3, 4]), source(square).batch([3, 4])
    assert words == same and middle.shape == (2, 3, 24, 24, 3)
    np.testing.assert_equal(truths, again)
    assert np.abs(whole[..., 12:36, :].astype(int) - middle).max() <= 1


@pytest.mark.parametrize("field, value", [
    ("aspect", 0.5), ("aspect", -1.0),
    ("split", "test"), ("language", "fr"), ("caption", "long"), ("fps", 0.0), ("frames", 0), ("seed", -1),
    ("families", ("jump",)),
])  # fmt: skip
def test_a_config_that_cannot_be_is_named(field, value):
    with pytest.raises(ConfigError, match=field if field != "families" else "jump"):
        source(Config(**{field: value}))


def test_the_end_is_an_index_error():
    few = source(Config(size=3))
    assert len(few) == 3
    with pytest.raises(IndexError):
        few[3]
