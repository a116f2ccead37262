"""Channels and spectra of latents whose statistics were planted."""
import numpy as np
import pytest

from sora_jax.evals import channels, spectrum

NEAR = 0.05


@pytest.fixture(scope="module")
def latents():
    """Channels: unit Gaussian, uniform of std 2 around 3, dead, and a copy of the first."""
    rng = np.random.default_rng(0)
    mean, logvar = np.zeros((20, 5, 16, 16, 4)), np.full((20, 5, 16, 16, 4), -4.0)
    mean[..., 0] = mean[..., 3] = rng.normal(size=mean.shape[:-1])
    mean[..., 1] = 3 + 2 * 3**0.5 * rng.uniform(-1, 1, size=mean.shape[:-1])
    logvar[..., 2] = 0
    return mean.astype(np.float32), logvar.astype(np.float32)


def test_channels_are_what_was_planted(latents):
    found = channels.evaluate(*latents)
    np.testing.assert_allclose(found["mean"], [0, 3, 0, 0], atol=NEAR)
    np.testing.assert_allclose(found["std"], [1, 2, 0, 1], atol=NEAR)
    np.testing.assert_allclose(found["kurtosis"], [0, -1.2, 0, 0], atol=NEAR)
    small = 0.5 * (np.exp(-4) - 1 + 4)
    np.testing.assert_allclose(found["kl"], [small + 0.5, small + 6.5, 0, small + 0.5], atol=3 * NEAR)
    assert found["kl_total"] == pytest.approx(sum(found["kl"])) and found["dead"] == 1
    assert found["rank"] == pytest.approx(9 / 5, abs=NEAR), "correlations have eigenvalues 2, 1 and 0"


def test_channels_that_never_vary():
    found = channels.evaluate(np.ones((2, 1, 2, 2, 3)), np.zeros((2, 1, 2, 2, 3)))
    assert found["rank"] == 0 and found["kurtosis"] == [0, 0, 0] and found["dead"] == 0


@pytest.mark.parametrize("shape", [(200, 2, 16, 16, 8), (200, 2, 9, 12, 8)])
def test_white_noise_is_flat(shape):
    found = spectrum.spatial(np.random.default_rng(0).normal(size=shape))
    np.testing.assert_allclose(found.power, 1, atol=0.12)
    assert found.frequency[0] == 0 and found.frequency[-1] <= 0.5 and (np.diff(found.frequency) > 0).all()
    found = spectrum.temporal(np.random.default_rng(0).normal(size=(40, 9, 8, 8, 4)))
    np.testing.assert_allclose(found.power, 1, atol=NEAR)
    np.testing.assert_allclose(found.frequency, np.arange(5) / 9)


@pytest.mark.parametrize("size", [(6, 7), (7, 6), (10, 11), (2, 3), (5, 4), (8, 8), (9, 9)])
def test_no_frequency_is_beyond_nyquist(size):
    found = spectrum.spatial(np.random.default_rng(0).normal(size=(2, 1, *size, 1)))
    longer = max(size)
    np.testing.assert_allclose(found.frequency, np.arange(longer // 2 + 1) / longer)


def test_a_wave_is_found_at_its_frequency_whatever_its_direction():
    """cos of amplitude 1 has |FFT|² = (hw / 2)² at two places of the ring."""
    y, x = np.meshgrid(np.arange(16), np.arange(16), indexing="ij")
    rings = np.bincount(np.rint(np.hypot(*np.meshgrid(*[np.fft.fftfreq(16) * 16] * 2))).astype(int).ravel())
    for wave in (np.cos(2 * np.pi * 4 * x / 16), np.cos(2 * np.pi * 4 * y / 16)):
        found = spectrum.spatial(wave[None, None, :, :, None])
        assert found.frequency[found.power.argmax()] == 0.25
        assert found.power[4] == pytest.approx(2 * 64 / rings[4]) and np.delete(found.power, 4).max() < 1e-9


def test_a_blink_is_found_in_time_and_a_constant_at_zero():
    blink = np.zeros((1, 8, 2, 2, 1))
    blink[:, ::2] = 2
    found = spectrum.temporal(blink)
    np.testing.assert_allclose(found.power, [8, 0, 0, 0, 8], atol=1e-12)
    assert found.frequency[-1] == 0.5
