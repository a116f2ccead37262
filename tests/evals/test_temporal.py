"""Errors of motion by hand: what stays is free, what flickers is seen, where things stand still and where they move."""
import numpy as np
import pytest

from sora_jax.evals.temporal import evaluate


def clips(count=3, frames=4, size=8):
    """A grey square a quarter of the picture wide that moves two pixels a frame on black."""
    made = np.zeros((count, frames, size, size, 3), np.uint8)
    for f in range(frames):
        made[:, f, :, 2 * f: 2 * f + 2] = 100
    return made


def test_a_copy_and_a_constant_error_are_free():
    given = clips()
    for back in (given, given + np.uint8(9)):
        found = evaluate(given, back)
        assert found == {"change_error": 0.0, "change_error_by_step": [0.0] * 3, "flicker": 0.0}


def test_an_error_that_comes_and_goes():
    given = clips()
    back = given.copy()
    back[:, 1] += 6
    found = evaluate(given, back)
    assert found["change_error_by_step"] == [6.0, 6.0, 0.0] and found["change_error"] == 4.0
    assert found["flicker"] == pytest.approx(4.0)


def test_a_frozen_copy_misses_the_motion_and_does_not_flicker():
    given = clips()
    found = evaluate(given, np.repeat(given[:, :1], 4, 1))
    assert found["flicker"] == 0.0
    assert found["change_error"] == pytest.approx(100 * 4 / 8), "two columns go dark and two light, of eight"


def test_flicker_is_of_still_places_only():
    given, rng = clips(), np.random.default_rng(0)
    moving = np.abs(np.diff(given.astype(int), axis=1)).max(-1) > 0
    back = given.copy()
    back[:, 1:][moving] = rng.integers(0, 255, (moving.sum(), 3))
    once = evaluate(given, back)
    assert once["change_error"] > 0
    noisy = rng.integers(0, 256, given.shape).astype(np.uint8)
    change = np.abs(np.diff(noisy.astype(int), axis=1)).mean(-1)
    assert evaluate(given, noisy)["flicker"] == pytest.approx(change[~moving].mean())


def test_one_frame_has_no_motion_and_all_motion_has_no_flicker():
    assert evaluate(clips(frames=1), clips(frames=1)) == {}
    flash = np.zeros((1, 2, 4, 4, 3), np.uint8)
    flash[:, 1] = 90
    assert evaluate(flash, flash) == {"change_error": 0.0, "change_error_by_step": [0.0]}
