"""The parser finds what is there, also behind blur and noise, and scores fall when it is not."""

import numpy as np
import pytest
from scipy import ndimage

from sora_jax.datasets.physics import Config, source
from sora_jax.worlds.parse import parse
from sora_jax.worlds.sampling import FAMILIES
from sora_jax.worlds.score import score, velocity_error
from sora_jax.worlds.specification import Specification, specification

CLIPS = 24
FLOOR = {"clean": 0.004, "degraded": 0.02}  # heights per second; speeds are 0.125 and more


def degrade(video, rng):
    """A Gaussian blur of one pixel and noise of ten levels."""
    blurred = ndimage.gaussian_filter(video.astype(np.float32), (0, 1, 1, 0))
    return np.clip(blurred + rng.normal(0, 10, video.shape) + 0.5, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("quality", FLOOR)
@pytest.mark.parametrize("family", FAMILIES)
def test_ground_truth_is_read_right(family, quality):
    rng = np.random.default_rng(0)
    videos, _, truths = source(Config(families=(family,), split="val")).batch(range(CLIPS))
    videos = [degrade(video, rng) if quality == "degraded" else video for video in videos]
    parsed = [parse(video) for video in videos]
    right = [score(p, specification(truth))["all"] for p, truth in zip(parsed, truths, strict=True)]
    assert np.mean(right) >= 0.99
    errors = [velocity_error(p, truth) for p, truth in zip(parsed, truths, strict=True)]
    assert np.nanmean(errors) < FLOOR[quality]
    assert family == "occluder" or not np.isnan(errors).any()


def test_centres_are_found_to_a_tenth_of_a_pixel():
    videos, _, truths = source(Config(families=("uniform",), split="val")).batch(range(CLIPS))
    for video, truth in zip(videos, truths, strict=True):
        assert np.abs(parse(video).objects[0].centroid - truth["position"][:, 0]).max() * 64 < 0.1


def test_other_sizes_and_rates_are_read_too():
    config = Config(families=("uniform", "composition"), split="val", height=32, width=48, frames=9, fps=4.0)
    videos, _, truths = source(config).batch(range(CLIPS))
    assert np.mean([score(parse(v, 4.0), specification(t))["all"] for v, t in zip(videos, truths, strict=True)]) == 1.0
    images = source(Config(families=("composition",), frames=1)).batch(range(CLIPS))
    assert np.mean([score(parse(v), specification(t))["all"] for v, t in zip(images[0], images[2], strict=True)]) == 1.0


def test_pictures_of_nothing_have_no_objects():
    rng = np.random.default_rng(0)
    for video in (np.full((5, 64, 64, 3), 128), rng.normal(128, 12, (5, 64, 64, 3)), np.zeros((5, 64, 64, 3))):
        assert parse(video.clip(0, 255).astype(np.uint8)).count == 0
    parse(rng.integers(0, 256, (5, 64, 64, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def red():
    """A clip of one object that moves along an axis, its truth and its parse."""
    videos, _, truths = source(Config(families=("uniform",), split="val")).batch([0])
    return videos[0], truths[0], parse(videos[0])


def test_each_score_falls_alone(red):
    _, truth, parsed = red
    (colour, shape), direction = specification(truth).kinds[0], truth["direction"]
    other = Specification((("white", shape),), direction)
    assert score(parsed, other) == {
        "count": True, "colour": False, "shape": True, "direction": True, "place": True, "all": False,
    }  # fmt: skip
    assert not score(parsed, Specification(((colour, "star"),), direction))["shape"]
    assert not score(parsed, Specification(((colour, shape),), "still"))["direction"]
    assert not score(parsed, Specification(((colour, shape),) * 2, direction))["count"]
    swapped = score(parsed._replace(objects=()), Specification(((colour, shape),), direction))
    assert not swapped["direction"] and not swapped["all"]


def test_binding_counts_only_in_all():
    videos, _, truths = source(Config(families=("composition",), split="val")).batch(range(60))
    index, pairs = next(
        (i, specification(t).kinds)
        for i, t in enumerate(truths)
        if t["relation"] and len({k[1] for k in specification(t).kinds}) == 2
    )
    (c1, s1), (c2, s2) = pairs
    result = score(parse(videos[index]), Specification(tuple(sorted([(c1, s2), (c2, s1)])), "still"))
    assert result["colour"] and result["shape"] and not result["all"]
    first, word, second = specification(truths[index]).relation
    turned = Specification(pairs, "still", (second, word, first))
    assert not score(parse(videos[index]), turned)["place"]


def test_the_velocity_error_of_a_slower_clip_is_the_difference_of_speeds(red):
    _, truth, parsed = red
    frozen = parsed._replace(objects=tuple(o._replace(centroid=0 * o.centroid) for o in parsed.objects))
    np.testing.assert_allclose(velocity_error(frozen, truth), np.hypot(*truth["velocity"][0, 0]), rtol=1e-5)
    assert np.isnan(velocity_error(parsed._replace(objects=()), truth))
