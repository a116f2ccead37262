"""Draws have their law, stratified or not."""
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion import times


def logit(t):
    return jnp.log(t / (1 - t))


@pytest.mark.parametrize("mean,std", [(0.0, 1.0), (-0.5, 0.7)])
def test_logit_normal_has_its_moments(key, mean, std):
    z = logit(times.logit_normal(key, 4096, mean, std))
    assert z.mean() == pytest.approx(mean, abs=0.01) and z.std() == pytest.approx(std, abs=0.01)


def test_logit_normal_covers_small_batches(key):
    t = times.logit_normal(key, 8)
    quartiles = jnp.searchsorted(jnp.array([0.3374, 0.5, 0.6626]), t)
    assert np.bincount(quartiles, minlength=4).tolist() == [2, 2, 2, 2]
    assert not (jnp.diff(t) > 0).all(), "the order must be random, or clip 0 is always the cleanest"


@pytest.mark.parametrize("scale", [-0.5, 0.0, 1.29])
def test_mode_has_the_law_of_its_paper(key, scale):
    """The share of times below those that a float64 grid of u has on its way through eq. 20 of Esser et al. 2024."""
    t = np.sort(times.mode(key, 4096, scale))
    u = (np.arange(4096) + 0.5) / 4096
    want = np.sort(1 - u - scale * (np.cos(np.pi / 2 * u) ** 2 - 1 + u))
    np.testing.assert_allclose(t, want, atol=1e-3)
    middle = np.mean((t > 0.25) & (t < 0.75))
    assert middle == pytest.approx(0.5, abs=0.01) if scale == 0 else (middle > 0.5) == (scale > 0)


def test_discrete_times_are_the_chain_s(key):
    t = np.asarray(times.discrete(key, 20_000, 10)) * 10
    np.testing.assert_allclose(t, np.round(t), atol=1e-5)
    assert np.bincount(np.round(t).astype(int), minlength=11).min() == 0
    assert np.bincount(np.round(t).astype(int), minlength=11)[1:].min() > 1800


def test_uniform_and_stratified(key):
    assert times.uniform(key, 10_000).mean() == pytest.approx(0.5, abs=0.01)
    np.testing.assert_allclose(times.stratified(4), [0.125, 0.375, 0.625, 0.875])
