"""Paths are what their papers say, any prediction turns into any other and back, and the log-SNR has an inverse."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion.path import KINDS, Cosine, Flow, Karras, LinearVP, corrupt, score, split, target

ROUNDING = 3e-6  # of a conversion, against the largest number in it
SLOPE, INVERSE = 1e-3, 2e-6
PATHS = {"flow": Flow(), "linear": LinearVP(), "zero": LinearVP(zero_terminal=True), "cosine": Cosine(),
         "karras": Karras(), "karras-half": Karras(0.002, 80.0, 7.0, 0.5)}
CHAINS = ("linear", "zero", "cosine")
every = pytest.mark.parametrize("name", PATHS)
TIMES = jnp.asarray(np.concatenate([np.geomspace(1e-4, 0.5, 40), np.linspace(0.51, 1.0, 50)]), jnp.float32)


def alphas_of(beta):
    """sqrt(alpha-bar) of a chain, in float64."""
    return np.sqrt(np.cumprod(1 - beta))


def chain(name, steps):
    """The betas of a chain as its paper writes them, in float64."""
    linear = np.linspace(1e-4, 0.02, steps)
    if name == "cosine":
        f = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
        return np.minimum(1 - f[1:] / f[:-1], 0.999)
    if name == "zero":
        roots = alphas_of(linear)
        roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
        return 1 - np.concatenate([roots[:1], roots[1:] / roots[:-1]]) ** 2
    return linear


@functools.partial(jax.jit, static_argnames="path")
def measure(path, t):
    return path.alpha(t), path.sigma(t), *path.derivatives(t), path.log_snr(t)


@every
@pytest.mark.parametrize("one", KINDS)
def test_every_prediction_turns_into_every_other_and_back(key, name, one):
    """At random times, to the rounding of the numbers that the conversion goes through."""
    path = PATHS[name]
    x0, eps = jax.random.normal(key, (2, 64, 8))
    t = jax.random.uniform(jax.random.fold_in(key, 1), (64,), minval=0.01, maxval=0.999)
    xt, prediction = corrupt(path, x0, eps, t), target(path, one, x0, eps, t)
    alpha, sigma = path.alpha(t), path.sigma(t)
    for other in set(KINDS) - {one}:
        there = target(path, other, *split(path, one, prediction, xt, t), t)
        back = target(path, one, *split(path, other, there, xt, t), t)
        want = target(path, other, x0, eps, t)
        worst = 1 / alpha**2 + 1 / sigma**2
        for got, true in ((there, want), (back, prediction)):
            error = jnp.abs(got - true).max(1) / (1 + jnp.abs(true).max(1))
            assert (error < ROUNDING * worst).all(), (other, float((error / worst).max()))


@every
@pytest.mark.parametrize("kind", KINDS)
def test_split_is_exact_at_both_ends_where_it_can_be(key, name, kind):
    path = PATHS[name]
    x0, eps = jax.random.normal(key, (2, 3, 8))
    for t in (1e-3, 1.0):
        t = jnp.full(3, t)
        got = split(path, kind, target(path, kind, x0, eps, t), corrupt(path, x0, eps, t), t)
        assert all(jnp.isfinite(part).all() for part in got)
        if kind in ("v", "flow", "edm"):
            for part, want in zip(got, (x0, eps), strict=True):
                np.testing.assert_allclose(part, want, atol=1e-2)


@every
def test_time_runs_from_data_to_noise(key, name):
    path = PATHS[name]
    x0, eps = jax.random.normal(key, (2, 4, 8))
    np.testing.assert_array_equal(corrupt(path, x0, eps, jnp.zeros(4)), x0 / path.sigma_data)
    np.testing.assert_allclose(corrupt(path, x0, eps, jnp.ones(4)), eps, atol=0.05)
    assert (path.alpha(jnp.float32(1.0)) == 0) == path.pure_noise


@every
def test_weights_are_finite_and_the_log_snr_falls(name):
    found = measure(PATHS[name], TIMES)
    alpha, sigma, _, _, log_snr = found
    assert all(jnp.isfinite(part).all() for part in found[:4]) and jnp.isfinite(log_snr[:-1]).all()
    assert (jnp.diff(sigma) >= 0).all() and (jnp.diff(alpha) <= 0).all() and (jnp.diff(log_snr) < 0).all()
    assert jnp.isneginf(log_snr[-1]) == PATHS[name].pure_noise
    np.testing.assert_allclose(jnp.exp(log_snr), alpha / sigma, rtol=1e-4)


@every
def test_time_is_the_inverse_of_the_log_snr(name):
    path = PATHS[name]
    np.testing.assert_allclose(path.time(path.log_snr(TIMES)), TIMES, atol=INVERSE)
    np.testing.assert_array_equal(path.time(jnp.array([jnp.inf, -jnp.inf])), [0, 1])


@every
def test_derivatives_are_the_slopes(name):
    """Against automatic differentiation, between the steps of the chains and in their first and last interval."""
    path, t = PATHS[name], (jnp.array([0, *range(10, 1000, 45), 999]) + 0.5) / 1000
    for got, weight in zip(path.derivatives(t), (path.alpha, path.sigma), strict=True):
        np.testing.assert_allclose(got, jax.jvp(weight, (t,), (jnp.ones_like(t),))[1], rtol=SLOPE, atol=1e-5)


@pytest.mark.parametrize("name", ("linear", "zero", "cosine", "karras"))
def test_variance_is_preserved_and_edm_is_minus_v(key, name):
    path = PATHS[name]
    x0, eps = jax.random.normal(key, (2, len(TIMES), 3))
    np.testing.assert_allclose(path.alpha(TIMES) ** 2 + path.sigma(TIMES) ** 2, 1, atol=1e-6)
    np.testing.assert_allclose(target(path, "edm", x0, eps, TIMES), -target(path, "v", x0, eps, TIMES), atol=1e-5)


@pytest.mark.parametrize("name", CHAINS)
def test_closed_form_is_the_chain_of_the_paper(name):
    alpha, path, t = alphas_of(chain(name, 1000)), PATHS[name], jnp.arange(1, 1001) / 1000
    np.testing.assert_allclose(path.alpha(t), alpha, rtol=2e-4, atol=1e-7)
    np.testing.assert_allclose(path.sigma(t), np.sqrt(1 - alpha**2), rtol=1e-4)
    assert path.alpha(jnp.float32(1.0)) == pytest.approx({"linear": 0.00635, "zero": 0, "cosine": 4.93e-5}[name],
                                                         rel=2e-3)


@pytest.mark.parametrize("name", CHAINS)
def test_noise_by_steps_has_the_law_of_noise_at_once(key, name):
    """x_t = sqrt(1 - beta) x_t-1 + sqrt(beta) eps walked by 40 000 particles from x0 = 2: mean and standard deviation
    within four standard errors of alpha x0 and sigma at several times."""
    steps, count, start = 40, 40_000, 2.0
    beta = np.linspace(0.001, 0.2, steps) if name == "linear" else chain(name, steps)
    path = {"linear": LinearVP(steps, 0.001, 0.2), "zero": LinearVP(steps, zero_terminal=True),
            "cosine": Cosine(steps)}[name]

    @jax.jit
    def walk(key):
        def step(x, inputs):
            kept, key = inputs
            x = jnp.sqrt(1 - kept) * x + jnp.sqrt(kept) * jax.random.normal(key, x.shape)
            return x, (x.mean(), x.std())

        return jax.lax.scan(step, jnp.full(count, start), (jnp.asarray(beta), jax.random.split(key, steps)))[1]

    mean, std = walk(key)
    at = np.array([1, 10, 20, 30, 39, 40])
    alpha, sigma = path.alpha(jnp.asarray(at / steps)), path.sigma(jnp.asarray(at / steps))
    assert (jnp.abs(mean[at - 1] - alpha * start) < 4 * sigma / count**0.5).all()
    assert (jnp.abs(std[at - 1] - sigma) < 4 * sigma / (2 * count) ** 0.5).all()


@pytest.mark.parametrize("name", ("karras", "karras-half"))
def test_levels_are_those_of_the_paper_to_the_smallest(name):
    """Karras et al. 2022, eq. 5, in float64: never further than sigma_min away, and equal at both ends."""
    path, t = PATHS[name], np.linspace(0, 1, 33)
    low, high = path.sigma_min ** (1 / path.rho), path.sigma_max ** (1 / path.rho)
    gap = (low + t * (high - low)) ** path.rho - np.asarray(path.level(jnp.asarray(t, jnp.float32)), float)
    assert (gap > -1e-5 * path.sigma_max).all() and (gap < path.sigma_min * 1.0001 + 1e-6 * path.sigma_max).all()
    assert path.level(jnp.float32(0)) == 0 and path.level(jnp.float32(1)) == pytest.approx(path.sigma_max, rel=1e-6)


@every
@pytest.mark.parametrize("kind", KINDS)
def test_score_is_that_of_a_mixture(name, kind):
    """The best prediction for a mixture of two Gaussians gives the gradient of its log density."""
    path = PATHS[name]
    share, centre, spread = (jnp.array(part) for part in ((0.3, 0.7), (-1.5, 1.0), (0.4, 0.7)))
    x, t = jnp.linspace(-1.2, 1.2, 9), jnp.tile(jnp.array([0.15, 0.5, 0.8]), 3)
    alpha, sigma = path.alpha(t)[:, None], path.sigma(t)[:, None]

    def log_density(x):
        logs = jax.scipy.stats.norm.logpdf(x[:, None], alpha * centre, jnp.hypot(alpha * spread, sigma))
        return jax.scipy.special.logsumexp(logs + jnp.log(share), axis=1)

    variance = jnp.hypot(alpha * spread, sigma) ** 2
    logs = jnp.log(share) + jax.scipy.stats.norm.logpdf(x[:, None], alpha * centre, jnp.sqrt(variance))
    each = centre + alpha * spread**2 / variance * (x[:, None] - alpha * centre)
    x0 = (jax.nn.softmax(logs, axis=1) * each).sum(1)
    eps = (jax.nn.softmax(logs, axis=1) * sigma / variance * (x[:, None] - alpha * centre)).sum(1)
    want = jax.grad(lambda x: log_density(x).sum())(x)
    np.testing.assert_allclose(score(path, kind, target(path, kind, x0, eps, t), x, t), want, rtol=2e-3, atol=2e-3)


def test_time_may_be_per_clip_or_per_token(key):
    x0, eps = jax.random.normal(key, (2, 3, 5, 4))
    t = jax.random.uniform(key, (3, 5))
    got = corrupt(Flow(), x0, eps, t)
    np.testing.assert_allclose(got[1, 2], (1 - t[1, 2]) * x0[1, 2] + t[1, 2] * eps[1, 2], rtol=1e-6)
    per_clip, per_token = (corrupt(Flow(), x0, eps, time) for time in (t[:, 0], jnp.tile(t[:, :1], (1, 5))))
    np.testing.assert_array_equal(per_clip, per_token)
