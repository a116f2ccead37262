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


def test_discrete_times_are_the_chain_s(key):
    t = np.asarray(times.discrete(key, 20_000, 10)) * 10
    np.testing.assert_allclose(t, np.round(t), atol=1e-5)
    assert np.bincount(np.round(t).astype(int), minlength=11).min() == 0
    assert np.bincount(np.round(t).astype(int), minlength=11)[1:].min() > 1800


def test_uniform_and_stratified(key):
    assert times.uniform(key, 10_000).mean() == pytest.approx(0.5, abs=0.01)
    np.testing.assert_allclose(times.stratified(4), [0.125, 0.375, 0.625, 0.875])
