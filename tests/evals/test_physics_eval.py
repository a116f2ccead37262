"""Adherence and velocity: true clips keep their promises, shuffled and empty ones do not, intervals are Wilson's."""
import numpy as np
import pytest

from sora_jax.datasets.physics import Config, source
from sora_jax.evals import physics
from sora_jax.worlds.parse import parse
from sora_jax.worlds.score import velocity_error
from sora_jax.worlds.specification import specification

CLIPS, FPS = 32, 8.0
FLOOR = 0.01  # heights per second; speeds are 0.125 and more


@pytest.mark.parametrize("right, asked, low, high", [
    (5, 10, 0.2366, 0.7634), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662),
    (1, 29, 0.0061, 0.1718)])
def test_intervals_are_those_of_the_books(right, asked, low, high):
    """The last two are examples 1 and 4 of Newcombe 1998, table I, method 3."""
    assert physics.interval(right, asked) == pytest.approx((low, high), abs=5e-5)


@pytest.fixture(scope="module")
def true():
    """Clips of the two families that say direction and place, what their captions promise, and the truth."""
    drawn = source(Config(families=("uniform", "composition"), split="val")).batch(range(CLIPS))
    return drawn[0], [specification(caption) for caption in drawn[1]], drawn[2]


def test_true_clips_keep_their_promises(true):
    videos, specifications, _ = true
    found = physics.adherence(videos, specifications, FPS)
    assert set(found) == set(physics.QUESTIONS)
    for name, answer in found.items():
        assert answer["right"] >= 0.95 and answer["low"] < answer["right"] <= answer["high"] <= 1, (name, answer)
        assert (answer["low"], answer["high"]) == physics.interval(
            round(answer["right"] * answer["asked"]), answer["asked"])
    assert found["count"]["asked"] == found["all"]["asked"] == CLIPS
    assert found["direction"]["asked"] == sum(spec.direction is not None for spec in specifications) < CLIPS
    assert found["place"]["asked"] == sum(spec.relation is not None for spec in specifications) < CLIPS


def test_framing_counts_what_stands_whole(true):
    videos, specifications, truths = true
    subjects = sum(truth["count"] for truth in truths)
    found = physics.framing(videos, specifications, FPS)
    assert found["subjects"] == subjects and found["seen"] >= found["whole"] > 0.9
    assert physics.framing(np.full_like(videos, 128), specifications, FPS)["seen"] == 0
    kept = physics.in_view(truths, 1.0)
    assert kept == {"seen": 1.0, "whole": 1.0, "clips_whole": 1.0, "subjects": subjects}


def test_a_square_crop_loses_what_stands_at_the_sides():
    config = Config(families=("composition",), split="val", width=64, aspect=2.0, counts=(2,))
    videos, captions, truths = source(config).batch(range(24))
    kept = physics.in_view(truths, 1.0)
    shown = physics.framing(videos, [specification(caption) for caption in captions], FPS)
    assert kept["clips_whole"] < kept["whole"] < kept["seen"] < 1
    assert shown["whole"] == pytest.approx(kept["whole"], abs=0.1)
    narrow = physics.in_view(truths, 0.5)
    assert narrow["whole"] < kept["whole"] and physics.in_view(truths, 2.0)["whole"] == 1


def test_shuffled_captions_are_not_kept(true):
    videos, specifications, _ = true
    found = physics.adherence(videos, specifications[1:] + specifications[:1], FPS)
    assert found["all"]["right"] < 0.15 and found["colour"]["right"] < 0.4 and found["direction"]["right"] < 0.7


def test_grey_keeps_nothing(true):
    videos, specifications, _ = true
    found = physics.adherence(np.full_like(videos, 128), specifications, FPS)
    assert all(answer["right"] == 0 for answer in found.values())


def test_a_question_nobody_asks_is_left_out(true):
    videos, specifications, _ = true
    silent = [spec._replace(direction=None, relation=None) for spec in specifications]
    assert set(physics.adherence(videos, silent, FPS)) == {"count", "colour", "shape", "all"}


@pytest.fixture(scope="module")
def moving():
    videos, _, truths = source(Config(families=("uniform",), split="val")).batch(range(CLIPS))
    return videos, truths


def test_true_motion_has_the_error_of_the_parser(moving):
    found = physics.velocity(*moving, FPS)
    assert found["mean"] < FLOOR and found["lost"] == 0
    errors = [velocity_error(parse(video, FPS), truth) for video, truth in zip(*moving, strict=True)]
    want = {"mean": np.mean(errors), "median": np.median(errors), "se": np.std(errors) / CLIPS**0.5}
    assert {name: found[name] for name in want} == pytest.approx(want)


def test_a_clip_that_stands_still_is_wrong_by_its_speed(moving):
    videos, truths = moving
    found = physics.velocity(np.repeat(videos[:, :1], videos.shape[1], 1), truths, FPS)
    speeds = [np.hypot(*truth["velocity"][:, 0].T).mean() for truth in truths]
    assert found["mean"] == pytest.approx(np.mean(speeds), rel=0.1)
    backwards = physics.velocity(videos[:, ::-1], truths, FPS)
    assert backwards["mean"] == pytest.approx(2 * np.mean(speeds), rel=0.1)


def test_lost_objects_are_counted_and_not_averaged(moving):
    videos, truths = moving
    half = videos.copy()
    half[: CLIPS // 2] = 128
    found = physics.velocity(half, truths, FPS)
    assert found["lost"] == CLIPS // 2 and found["mean"] < FLOOR
    nothing = physics.velocity(np.full_like(videos, 128), truths, FPS)
    assert nothing["lost"] == CLIPS and np.isnan(nothing["mean"]) and np.isnan(nothing["se"])
