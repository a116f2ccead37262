"""On a Gaussian the best denoiser is known, and so is where every sampler should end: order and moments are checked.

Contract: each sampler ends at data, holds what it is told to hold after every step, and is a function of its key.
"""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax import registry
from sora_jax.diffusion import grids
from sora_jax.diffusion.path import Flow, LinearVP

MEAN, STD = 0.7, 0.5
ORDERS = {("euler", Flow): 1, ("heun", Flow): 2, ("euler", LinearVP): 1, ("ddim", Flow): 1, ("ddim", LinearVP): 1}
MOMENT = 0.02
SAMPLERS = registry.names("samplers")


def denoiser(path, x, t):
    """E[x0 | x_t] and the noise that goes with it, for data N(MEAN, STD^2)."""
    alpha, sigma = path.alpha(t), path.sigma(t)
    gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
    x0 = MEAN + gain * (x - alpha * MEAN)
    return x0, (x - alpha * x0) / jnp.maximum(sigma, 1e-12)


@functools.partial(jax.jit, static_argnames=("name", "path", "steps"))
def run(name, path, steps, x, key, first=1.0):
    """The sampler on a grid from `first` to 0."""
    grid = grids.shifted(steps) * first
    return registry.load("samplers", name).sample(functools.partial(denoiser, path), x, grid, path, key)


@pytest.mark.parametrize("name,kind", ORDERS)
def test_order_on_a_gaussian(key, name, kind):
    """The flow maps quantiles to quantiles, so the end of every trajectory is known exactly.

    LinearVP starts at 0.8: near noise its rate varies so fast that these grids are too coarse to show an order."""
    path, first = kind(), 1.0 if kind is Flow else 0.8
    x = jnp.linspace(-2.0, 2.0, 9)
    alpha, sigma = path.alpha(jnp.float32(first)), path.sigma(jnp.float32(first))
    want = MEAN + STD * (x - alpha * MEAN) / jnp.sqrt(alpha**2 * STD**2 + sigma**2)
    errors = [float(jnp.abs(run(name, path, steps, x, key, first) - want).max()) for steps in (16, 32, 64)]
    slopes = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.abs(slopes - ORDERS[name, kind]).max() < 0.35, (errors, slopes)


@pytest.mark.parametrize("name", ["ddpm", "ddim", "euler", "sde"])
@pytest.mark.parametrize("path", [Flow(), LinearVP()], ids=lambda path: type(path).__name__)
def test_moments_of_the_samples(key, name, path):
    """DDPM walks its own 1000 steps: with fewer its smaller variance is known to be too small. So does the SDE."""
    steps = 1000 if name in ("ddpm", "sde") else 200
    x = run(name, path, steps, jax.random.normal(key, (20_000,)), key)
    assert x.mean() == pytest.approx(MEAN, abs=MOMENT) and x.std() == pytest.approx(STD, abs=MOMENT)


def test_ancestral_steps_are_the_posterior_of_the_paper():
    """Ho et al. eqs. 6 and 7 in float64, at the first, a middle and the last step."""
    from sora_jax.samplers.ddpm import posterior
    beta = np.linspace(1e-4, 0.02, 1000)
    bar = np.concatenate([[1.0], np.cumprod(1 - beta)])
    for i in (0, 1, 500, 999):
        got = posterior(LinearVP(), jnp.float32((i + 1) / 1000), jnp.float32(i / 1000))
        want = (np.sqrt(bar[i]) * beta[i] / (1 - bar[i + 1]), np.sqrt(1 - beta[i]) * (1 - bar[i]) / (1 - bar[i + 1]),
                np.sqrt((1 - bar[i]) / (1 - bar[i + 1]) * beta[i]))
        np.testing.assert_allclose(got, want, rtol=3e-3, atol=1e-6)


def test_ddim_is_euler_on_the_straight_path(key):
    x = jax.random.normal(key, (5,))
    np.testing.assert_allclose(run("ddim", Flow(), 7, x, key), run("euler", Flow(), 7, x, key), rtol=1e-5)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 5])
def test_what_is_held_stays(key, name, steps):
    seen = []

    def denoise(x, t):
        jax.debug.callback(lambda value: seen.append(float(value)), x[0])
        return denoiser(Flow(), x, t)

    sample = registry.load("samplers", name).sample
    start = jnp.array([9.0, 0.3])
    end = sample(denoise, start, grids.shifted(steps), Flow(), key, lambda x: x.at[0].set(9.0))
    jax.effects_barrier()
    assert end[0] == 9.0 and set(seen) == {9.0} and len(seen) >= steps


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sample_is_a_function_of_its_key(key, name):
    x = jax.random.normal(key, (4,))
    one, again, other = (run(name, Flow(), 4, x, jax.random.key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert bool((one != other).any()) == (name in ("ddpm", "sde"))
