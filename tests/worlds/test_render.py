"""Pixels: against an independent numpy renderer, as windows of one picture, and in the areas of the shapes."""

import numpy as np
import pytest
from worlds_drawn import stream

from sora_jax.worlds import palette, sampling
from sora_jax.worlds.render import render

LEVEL = 1  # one grey level: float32 rounding at a half


@pytest.fixture(scope="module")
def truths():
    return [stream(frames=3, fps=1.0).clip(i)[0] for i in range(12)]


def reference(truth, frame, height, width):
    """Painter's algorithm by 12 x 12 supersampling of the exact shapes (no distances, no ramps)."""
    n = 12
    y, x = (np.arange(height * n) + 0.5)[:, None] / (height * n), (np.arange(width * n) + 0.5)[None] / (height * n)
    image = np.full((height * n, width * n, 3), 128.0)
    for k in range(truth["count"]):
        r, dx, dy = truth["radius"][k], x - truth["position"][frame, k, 0], y - truth["position"][frame, k, 1]
        circum = palette.TRIANGLE_CIRCUM * r
        inside = (
            dx**2 + dy**2 < r**2,
            (np.abs(dx) < np.sqrt(np.pi) / 2 * r) & (np.abs(dy) < np.sqrt(np.pi) / 2 * r),
            (dy < circum / 2) & (np.abs(dx) < (dy + circum) / np.sqrt(3)),
        )[truth["shape"][k]]
        image[inside] = palette.RGB[truth["colour"][k]]
    if truth["slab"]:
        image[:, (x[0] > truth["slab"][0]) & (x[0] < truth["slab"][1])] = palette.SLAB
    return image.reshape(height, n, width, n, 3).mean((1, 3))


def test_the_picture_is_that_of_an_independent_renderer(truths):
    plain = [truth for truth in truths if truth["family"] != "pan"]
    video = render(sampling.scene(plain), 48, 48).astype(float)
    for clip, truth in zip(video, plain, strict=True):
        difference = np.abs(clip[1] - reference(truth, 1, 48, 48))
        assert difference.mean() < 0.25 and (difference > 60).mean() < 0.002


def test_a_window_is_a_crop_of_the_whole(truths):
    scene = sampling.scene(truths)
    whole = render(scene, 64, 64)
    window = render(scene, 32, 32, (16 / 64, 8 / 64, 32 / 64))
    assert np.abs(window.astype(int) - whole[:, :, 16:48, 8:40]).max() <= LEVEL
    assert not np.array_equal(window, whole[:, :, 16:48, 9:41])


def test_resolutions_agree_on_the_mean(truths):
    scene = sampling.scene([truth for truth in truths if truth["family"] != "pan"])
    fine = render(scene, 128, 128).astype(float)
    pooled = fine.reshape(*fine.shape[:2], 32, 4, 32, 4, 3).mean((3, 5))
    assert np.abs(pooled - render(scene, 32, 32)).mean() < 0.5


def test_a_clip_does_not_depend_on_its_batch(truths):
    together = render(sampling.scene(truths), 32, 48)
    assert np.abs(together[5].astype(int) - render(sampling.scene(truths[5:6]), 32, 48)[0]).max() <= LEVEL


def test_shapes_have_the_areas_they_should():
    truth = next(t for t in (stream(families=("uniform",)).clip(i)[0] for i in range(9)) if t["count"] == 1)
    for shape, area in enumerate((np.pi, np.pi, 0.75 * np.sqrt(3) * palette.TRIANGLE_CIRCUM**2)):
        truth["shape"][0], truth["colour"][0], truth["radius"][0] = shape, 0, 0.12
        truth["position"][:, 0] = 0.5
        red = render(sampling.scene([truth]), 128, 128)[0, 0].astype(float)[..., 0]
        measured = (red - 128).sum() / (235 - 128) / 128**2
        np.testing.assert_allclose(measured, area * 0.12**2, rtol=0.005)


def test_the_pan_pattern_moves_against_the_camera_with_the_objects():
    truth = next(
        t for t in (stream(families=("pan",), frames=9).clip(i)[0] for i in range(50)) if t["direction"] == "left"
    )
    step = np.abs(truth["velocity"][0, 0, 0]) / 8.0
    width = 64
    truth["times"] = truth["times"] * (1 / width) / step  # one pixel a frame
    truth["position"][:, :, :] = truth["position"][:1] - np.arange(9)[:, None, None] * np.array([1 / width, 0])
    video = render(sampling.scene([truth]), 64, width)[0].astype(int)
    assert np.abs(video[1:, :, :-1] - video[:-1, :, 1:]).max() <= 2 * LEVEL
    assert video[0].std(axis=(0, 1)).min() > 1
