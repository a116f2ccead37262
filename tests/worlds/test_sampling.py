"""Worlds are pure in their index, keep to the ranges of their split and never depend on the frame rate."""

import numpy as np
import pytest
from worlds_drawn import stream

from sora_jax.types import ConfigError
from sora_jax.worlds import palette, sampling

CLIPS = 120


def truths(count=CLIPS, **rest):
    return [stream(**rest).clip(i)[0] for i in range(count)]


def extents(truth, k):
    return palette.reach(int(truth["shape"][k]), float(truth["radius"][k]))


def test_a_clip_is_a_function_of_its_index():
    first, again = stream(), stream()
    for index in (0, 7, 10**8):
        (a, text_a), (b, text_b) = first.clip(index), again.clip(index)
        assert text_a == text_b
        np.testing.assert_equal(a, b)
    assert not np.array_equal(first.clip(3)[0]["position"], first.clip(4)[0]["position"])
    assert not np.array_equal(first.clip(3)[0]["position"], stream(seed=1).clip(3)[0]["position"])
    assert not np.array_equal(first.clip(3)[0]["position"], stream(split="val").clip(3)[0]["position"])


def test_any_frame_rate_gives_the_same_path():
    for slow, fast in zip(truths(40, frames=5, fps=2.0), truths(40, frames=33, fps=16.0), strict=True):
        np.testing.assert_allclose(slow["position"], fast["position"][::8], atol=1e-6)
        assert slow["events"] == fast["events"] and slow["family"] == fast["family"]


@pytest.mark.parametrize("split", palette.SPLITS)
def test_each_split_keeps_to_its_ranges(split):
    radii = palette.RADIUS_OOD if split == "ood_radius" else palette.RADIUS
    speeds = palette.SPEED_OOD if split == "ood_speed" else palette.SPEED
    within = lambda x, ranges: any(low - 1e-6 <= x <= high + 1e-6 for low, high in ranges)  # noqa: E731
    for truth in truths(split=split):
        n = truth["count"]
        assert truth["split"] == palette.LABELS[split]
        assert all(within(r, radii) for r in truth["radius"][:n])
        pairs = {(int(c), int(s)) for c, s in zip(truth["colour"][:n], truth["shape"][:n], strict=True)}
        assert pairs <= set(palette.HELD if split == "held_pair" else palette.TRAINED)
        if truth["family"] != "composition":
            assert all(within(float(np.hypot(*v)), speeds) for v in truth["velocity"][0, :n])


def test_the_ranges_of_training_and_of_its_outside_are_apart():
    for inside, outside in ((palette.SPEED, palette.SPEED_OOD), (palette.RADIUS, palette.RADIUS_OOD)):
        assert all(high < low or top < bottom for bottom, high in inside for low, top in outside)
    assert not set(palette.HELD) & set(palette.TRAINED)
    assert len(palette.HELD) + len(palette.TRAINED) == len(palette.COLOURS) * len(palette.SHAPES)
    assert {c for c, _ in palette.TRAINED} == set(range(len(palette.COLOURS)))


def test_colours_are_at_least_thirty_degrees_apart_seen_from_grey():
    """But for the slab and the colour that is like it: who looks for that colour sees no slab."""
    rays = np.concatenate([palette.RGB, [palette.SLAB]]) - np.array(palette.GREY)
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    angles = np.degrees(np.arccos(np.clip(rays @ rays.T, -1, 1)))
    angles[palette.COLOUR_NAMES.index(palette.LIKE_SLAB), -1] = angles[-1, palette.COLOUR_NAMES.index(
        palette.LIKE_SLAB)] = 180
    assert angles[~np.eye(len(rays), dtype=bool)].min() > 30


@pytest.mark.parametrize("aspect", [1.0, 1.6])
def test_objects_of_uniform_pan_and_composition_stay_in_view(aspect):
    for truth in truths(families=("uniform", "pan", "composition"), aspect=aspect):
        assert truth["whole"][:, : truth["count"]].all()


def test_objects_do_not_overlap():
    for truth in truths(families=("composition", "pan", "collision"), split="train"):
        n = truth["count"]
        for i in range(n):
            for j in range(i + 1, n):
                gap = np.abs(truth["position"][:, i] - truth["position"][:, j])
                a, b = extents(truth, i), extents(truth, j)
                if truth["family"] == "collision":
                    assert np.hypot(*gap.T).min() >= a.half_width + b.half_width - 1e-6
                else:
                    beside = gap[:, 0] >= a.half_width + b.half_width - 1e-6
                    over = gap[:, 1] >= max(a.down + b.up, a.up + b.down) - palette.RADIUS[0][1]
                    assert (beside | over).all()


def test_each_family_shows_its_event():
    for truth in truths(families=("bounce", "collision", "parabola", "occluder")):
        kinds = [event["kind"] for event in truth["events"]]
        match truth["family"]:
            case "bounce":
                assert kinds and 0.2 <= truth["events"][0]["time"] <= 1.4
            case "collision":
                assert "collision" in kinds
            case "parabola":
                assert truth["velocity"][1, 0, 1] > truth["velocity"][0, 0, 1]
            case "occluder":
                assert not truth["visible"][:, 0].all() and truth["visible"][[0, -1], 0].all()


def test_relations_hold_and_directions_are_those_of_the_motion():
    for truth in truths(families=("composition", "uniform", "pan", "occluder")):
        first, second = truth["position"][0, :2]
        match truth["relation"]:
            case "left of":
                assert first[0] < second[0]
            case "right of":
                assert first[0] > second[0]
            case "above":
                assert first[1] < second[1]
            case "below":
                assert first[1] > second[1]
        if truth["direction"] in palette.DIRECTIONS:
            velocity = truth["velocity"][0, 0] / np.hypot(*truth["velocity"][0, 0])
            np.testing.assert_allclose(velocity, palette.DIRECTIONS[truth["direction"]], atol=1e-6)


def test_single_frames_are_random_moments_without_direction():
    images = truths(40, families=("uniform",), frames=1)
    moments = np.array([truth["times"][0] for truth in images])
    assert moments.min() < 0.5 and moments.max() > 1.5
    assert all(truth["direction"] is None and truth["whole"][0, 0] for truth in images)


@pytest.mark.parametrize("families, weights, split, word", [
    (("unifrom",), (), "train", "unifrom"), (("uniform",), (1, 2), "train", "weights"),
    (("composition",), (), "ood_speed", "ood_speed"),
])  # fmt: skip
def test_families_that_cannot_be_are_named(families, weights, split, word):
    with pytest.raises(ConfigError, match=word):
        sampling.family_table(families, weights, split)
