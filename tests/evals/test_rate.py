"""Bits of a Gaussian channel are known in closed form."""
import numpy as np
import pytest

from sora_jax.evals import rate

SHAPE, PIXELS = (64, 5, 8, 8, 2), 17 * 64 * 64


def test_the_bits_of_a_gaussian_channel():
    rng = np.random.default_rng(0)
    mean = rng.normal(size=SHAPE).astype(np.float32) * [3.0, 0.0] + [7.0, -2.0]
    logvar = np.log(np.broadcast_to([0.09, 1.0], SHAPE))
    per_element = 0.5 * np.log2(1 + 9 / 0.09)  # the second channel says nothing: its posterior is its prior
    found = rate.evaluate(mean, logvar, PIXELS)["bits_per_pixel"]
    assert found == pytest.approx(per_element * 5 * 8 * 8 / PIXELS, rel=0.01)


def test_a_scaled_latent_costs_the_same():
    rng = np.random.default_rng(1)
    mean, logvar = rng.normal(size=SHAPE), rng.normal(size=SHAPE)
    scaled = rate.evaluate(8 * mean + 3, logvar + 2 * np.log(8), PIXELS)
    assert scaled["bits_per_pixel"] == pytest.approx(rate.evaluate(mean, logvar, PIXELS)["bits_per_pixel"], rel=1e-6)
