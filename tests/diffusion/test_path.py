"""Any prediction turns into any other and back, and LinearVP is the chain of the DDPM paper."""
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion.path import KINDS, Flow, LinearVP, corrupt, split, target

CYCLES = 25
TOLERANCE = 2e-4
PATHS = (Flow(), LinearVP())


@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
@pytest.mark.parametrize("one,other", list(itertools.permutations(KINDS, 2)))
def test_predictions_round_trip(key, path, one, other):
    x0, eps = jax.random.normal(key, (2, 64, 8))
    t = jnp.linspace(0.05, 0.9, 64)
    xt, prediction = corrupt(path, x0, eps, t), target(path, one, x0, eps, t)

    def cycle(_, prediction):
        there = target(path, other, *split(path, one, prediction, xt, t), t)
        return target(path, one, *split(path, other, there, xt, t), t)

    prediction = jax.lax.fori_loop(0, CYCLES, cycle, prediction)
    want = target(path, one, x0, eps, t)
    error = jnp.abs(prediction - want).max(axis=1) / jnp.abs(want).max(axis=1)
    assert error.max() < TOLERANCE * (50 if isinstance(path, LinearVP) else 1), error.max()


@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_split_is_exact_at_both_ends_where_it_can_be(key, path, kind):
    x0, eps = jax.random.normal(key, (2, 3, 8))
    for t in (1e-3, 1.0):
        t = jnp.full(3, t)
        got = split(path, kind, target(path, kind, x0, eps, t), corrupt(path, x0, eps, t), t)
        assert all(jnp.isfinite(part).all() for part in got)
        if kind in ("v", "flow"):
            for part, want in zip(got, (x0, eps), strict=True):
                np.testing.assert_allclose(part, want, atol=1e-2)


def test_time_runs_from_data_to_noise(key):
    x0, eps = jax.random.normal(key, (2, 4, 8))
    for path in PATHS:
        np.testing.assert_array_equal(corrupt(path, x0, eps, jnp.zeros(4)), x0)
        np.testing.assert_allclose(corrupt(path, x0, eps, jnp.ones(4)), eps, atol=0.03)
        sigma = path.sigma(jnp.linspace(0, 1, 101))
        assert (jnp.diff(sigma) > 0).all() and (jnp.diff(path.alpha(jnp.linspace(0, 1, 101))) < 0).all()


@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
def test_derivatives_are_the_slopes(path):
    t, h = (jnp.arange(100, 1000, 50) - 0.5) / 1000, 2e-4
    for got, weight in zip(path.derivatives(t), (path.alpha, path.sigma), strict=True):
        np.testing.assert_allclose(got, (weight(t + h) - weight(t - h)) / (2 * h), rtol=5e-3, atol=2e-3)


def test_closed_form_is_the_markov_chain():
    """Moments of x_t by iterating q(x_t | x_t-1) = N(sqrt(1 - beta) x_t-1, beta) in float64, from x0 = 1."""
    beta = np.linspace(1e-4, 0.02, 1000)
    mean, variance, path = 1.0, 0.0, LinearVP()
    for index in range(1000):
        mean, variance = np.sqrt(1 - beta[index]) * mean, (1 - beta[index]) * variance + beta[index]
        if index % 111 == 0 or index == 999:
            t = jnp.float32((index + 1) / 1000)
            np.testing.assert_allclose(path.alpha(t), mean, rtol=1e-4)
            np.testing.assert_allclose(path.sigma(t) ** 2, variance, rtol=1e-4)
    assert path.alpha(jnp.float32(1.0)) == pytest.approx(0.00635, abs=1e-4)


def test_noise_by_steps_has_the_law_of_noise_at_once(key):
    path, count = LinearVP(steps=20, beta_min=0.01, beta_max=0.3), 40_000
    beta = jnp.linspace(0.01, 0.3, 20)
    x = jnp.full(count, 2.0)
    for index in range(13):
        noise = jax.random.normal(jax.random.fold_in(key, index), x.shape)
        x = jnp.sqrt(1 - beta[index]) * x + jnp.sqrt(beta[index]) * noise
    at_once = corrupt(path, jnp.full(count, 2.0), jax.random.normal(key, (count,)), jnp.full(count, 13 / 20))
    assert x.mean() == pytest.approx(float(at_once.mean()), abs=0.02)
    assert x.std() == pytest.approx(float(at_once.std()), abs=0.02)


def test_time_may_be_per_clip_or_per_token(key):
    x0, eps = jax.random.normal(key, (2, 3, 5, 4))
    t = jax.random.uniform(key, (3, 5))
    got = corrupt(Flow(), x0, eps, t)
    np.testing.assert_allclose(got[1, 2], (1 - t[1, 2]) * x0[1, 2] + t[1, 2] * eps[1, 2], rtol=1e-6)
    per_clip, per_token = (corrupt(Flow(), x0, eps, time) for time in (t[:, 0], jnp.tile(t[:, :1], (1, 5))))
    np.testing.assert_array_equal(per_clip, per_token)
