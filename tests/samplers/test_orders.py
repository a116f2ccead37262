"""On a mixture of Gaussians the end of every trajectory is known: errors fall with steps as each sampler's order says.

Orders are read between two times where lambda is finite, in float64; the way from noise to data itself is tried apart.
"""
import functools

import jax
import jax.numpy as jnp
import mixtures
import numpy as np
import pytest
from scipy import stats

from sora_jax import registry
from sora_jax.diffusion import grids
from sora_jax.diffusion.path import Flow, LinearVP

ORDERS = {"euler": 1, "ddim": 1, "heun": 2, "dpmpp": 2, "unipc": 3}
STEPS, FIRST, LAST = (48, 96), 0.9, 0.1
SLOPE = 0.25
# LinearVP's rate has a step of its own, 1/1000: solvers that use it are held to the limit of many steps.
PATHS = {"flow": lambda name: Flow(),
         "vp": lambda name: mixtures.SmoothVP() if name in ("euler", "heun") else LinearVP()}
WHOLE = {"euler": 0.05, "ddim": 0.05, "heun": 1e-3, "dpmpp": 3e-3, "unipc": 2e-3}  # after 64 steps from 1 to 0
# Kolmogorov's distance (equal laws stay below 0.0096 nineteen times in twenty), and standard deviation, relative.
DRAWS, APART, SPREAD = 20_000, 0.01, 0.01


def run(name, path, times, x, **options):
    sample, denoise = registry.load("samplers", name).sample, functools.partial(mixtures.denoise, path)
    return np.asarray(jax.jit(lambda x: sample(denoise, x, times, path, jax.random.key(1), **options))(x))


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("kind", PATHS)
def test_the_order_of_a_sampler(name, kind):
    with jax.enable_x64(True):
        path, x, errors = PATHS[kind](name), jnp.linspace(-1.5, 1.5, 13), []
        want = mixtures.carried(path, np.asarray(x), FIRST, LAST)
        for steps in STEPS:
            errors.append(np.abs(run(name, path, jnp.linspace(FIRST, LAST, steps + 1), x) - want).max())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(ORDERS[name], abs=SLOPE), errors


@pytest.mark.parametrize("name", ORDERS)
def test_from_noise_to_data_through_both_infinities(name):
    with jax.enable_x64(True):
        x = jnp.linspace(-1.5, 1.5, 13)
        end = run(name, Flow(), jnp.linspace(1.0, 0.0, 65), x)
        error = np.abs(end - mixtures.carried(Flow(), np.asarray(x), 1.0, 0.0))
    assert error.max() < WHOLE[name], error


@pytest.mark.parametrize("name", ["ddpm", "sde"])
@pytest.mark.parametrize("path", [Flow(), LinearVP()], ids=["flow", "vp"])
def test_stochastic_samplers_have_the_law(key, name, path):
    x = run(name, path, grids.shifted(500), jax.random.normal(key, (DRAWS,)))
    share = np.arange(1, DRAWS + 1) / DRAWS
    apart = np.abs(mixtures.below(path, np.sort(x), 1e-6) - share).max()
    assert apart < APART
    drawn = sample_of_the_mixture()
    assert stats.wasserstein_distance(x, drawn) < 4 * APART and x.std() == pytest.approx(spread(), rel=SPREAD)


def spread():
    """The mixture's standard deviation."""
    mean, square = ((mixtures.WEIGHTS * part).sum() for part in
                    (mixtures.MEANS, mixtures.STDS**2 + mixtures.MEANS**2))
    return np.sqrt(square - mean**2)


def sample_of_the_mixture():
    """As many draws from it."""
    rng = np.random.default_rng(0)
    which = rng.choice(2, DRAWS, p=mixtures.WEIGHTS)
    return mixtures.MEANS[which] + mixtures.STDS[which] * rng.normal(size=DRAWS)


@pytest.mark.parametrize("path", [Flow(), LinearVP()], ids=["flow", "vp"])
def test_ddim_renews_noise_as_asked(key, path):
    """At eta 1 it is ancestral sampling, draw for draw; at 0 the key does not matter; between, the law stays."""
    x, times = jax.random.normal(key, (DRAWS,)), grids.shifted(100)
    ancestral, half = run("ddpm", path, times, x), run("ddim", path, times, x, eta=0.5)
    np.testing.assert_allclose(run("ddim", path, times, x, eta=1.0), ancestral, atol=2e-3)
    share = np.arange(1, DRAWS + 1) / DRAWS
    assert np.abs(mixtures.below(path, np.sort(half), 1e-6) - share).max() < 2 * APART
    assert np.abs(half - ancestral).max() > 0.1


@pytest.mark.parametrize("grid", ["karras", "log-snr"])
def test_every_grid_serves_the_second_order(grid):
    """24 steps of the second order end nearer to the truth than 24 of the first."""
    x, path = jnp.linspace(-1.5, 1.5, 13), Flow()
    want = mixtures.carried(path, np.asarray(x), 1.0, 1e-6)
    first, *others = (np.abs(run(name, path, grids.grid(grid, 24, path), x) - want).mean()
                      for name in ("ddim", "dpmpp", "unipc"))
    assert max(others) < 0.5 * first, (first, others)
