"""A colour outside the palette's eight: shown, worded, read and looked for only where it is asked for."""
import numpy as np
import pytest

from sora_jax.datasets import physics
from sora_jax.evals import physics as evals
from sora_jax.scaling import identity
from sora_jax.types import ConfigError
from sora_jax.worlds import chinese, english, palette
from sora_jax.worlds.parse import parse
from sora_jax.worlds.prompts import prompts
from sora_jax.worlds.specification import specification

NEW = ("salmon",)
MIXED = (*NEW * 8, *palette.COLOURS)
SHARE = (0.35, 0.65)  # of objects, for one in two


def test_without_a_name_no_clip_shows_it():
    assert palette.pairs("train") == palette.TRAINED and palette.pairs("held_pair") == palette.HELD
    assert palette.pairs("train", tuple(palette.COLOURS)) == palette.TRAINED
    assert {palette.COLOUR_NAMES[c] for c, _ in palette.TRAINED} == set(palette.COLOURS)
    plain = {"data": {"name": "physics"}}
    assert identity.run_id(plain) == identity.run_id({"data": {"name": "physics", "colours": ()}})
    assert identity.run_id(plain) != identity.run_id({"data": {"name": "physics", "colours": NEW}})


def test_a_mixed_stream_shows_as_much_of_it_as_is_asked_for():
    source = physics.source(physics.Config(families=("uniform",), colours=MIXED))
    named = [specification(source.describe(i)[1]).kinds[0][0] for i in range(200)]
    assert SHARE[0] < np.mean([name == "salmon" for name in named]) < SHARE[1] and set(named) == set(MIXED)


@pytest.mark.parametrize("new", palette.BEYOND)
def test_it_is_seen_by_who_looks_for_it_and_by_nobody_else(new):
    source = physics.source(physics.Config(families=("uniform",), colours=(new,), width=48, height=48))
    videos, captions, truths = source.batch(range(3))
    asked = [specification(caption) for caption in captions]
    assert asked == [specification(truth)._replace(direction=said.direction)
                     for truth, said in zip(truths, asked, strict=True)]
    found = evals.adherence(videos, asked, 8.0, (new,))
    assert found["all"]["right"] == 1.0 and parse(videos[0], 8.0).count == 0


def test_both_languages_name_them():
    assert specification("一个鲑色圆形向右移动").kinds == (("salmon", "circle"),)
    assert specification("一个黑色圆形向右移动") == specification("a black circle moves right")
    assert set(palette.BEYOND) < set(english.COLOURS) & set(chinese.COLOURS)


def test_prompts_name_it_and_no_training_clip_carries_them():
    asked = prompts(20, colours=NEW)
    assert all(prompt.specification.kinds[0][0] == "salmon" for prompt in asked)
    assert not {prompt.text for prompt in asked} & {
        physics.source(physics.Config(families=("uniform",), colours=NEW)).describe(i)[1] for i in range(100)}


@pytest.mark.parametrize("colours, families, words", [
    (("salmn",), ("uniform",), "no 'salmn'; there are red,"),
    (NEW, ("uniform", "composition"), "'composition' shows 3"),
    (("salmon", "orange", "orange"), ("uniform", "pan", "composition"), "2 colours"),
    (("red",), ("collision",), "'collision' shows 2"),
    (("black", "red"), ("uniform", "occluder"), "not told from the slab"),
])
def test_colours_that_cannot_be_are_refused(colours, families, words):
    with pytest.raises(ConfigError, match=words):
        physics.source(physics.Config(families=families, colours=colours))
