"""The averages: the recursion equals the integral it stands for, and keeps its digits late in a run."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.train import ema
from sora_jax.types import ConfigError


def averaged(average, values):
    """The average after feeding `values` one by one, and starting from garbage that must be forgotten."""
    def body(carry, item):
        step, value = item
        return average({"w": carry}, {"w": value}, step)["w"], None

    steps = jnp.arange(len(values), dtype=jnp.int32)
    return float(jax.lax.scan(body, jnp.float32(1e3), (steps, jnp.asarray(values, jnp.float32)))[0])


@pytest.mark.parametrize("sigma_rel, exponent", [(0.05, 16.972), (0.10, 6.937)])
def test_gamma_matches_the_published_pairs(sigma_rel, exponent):
    assert ema.gamma(sigma_rel) == pytest.approx(exponent, abs=1e-3)


@pytest.mark.parametrize("sigma_rel", [0.05, 0.10, 0.2])
def test_gamma_is_the_relative_width_of_the_profile(sigma_rel):
    tau = (np.arange(200_000) + 0.5) / 200_000
    weight = tau ** ema.gamma(sigma_rel)
    weight /= weight.sum()
    mean = (weight * tau).sum()
    assert np.sqrt((weight * (tau - mean) ** 2).sum()) == pytest.approx(sigma_rel, rel=1e-4)


@pytest.mark.parametrize("sigma_rel", [0.05, 0.15])
def test_power_equals_the_integral(sigma_rel):
    values = np.random.default_rng(0).normal(size=300)
    g, fine = ema.gamma(sigma_rel), 400
    tau = (np.arange(300 * fine) + 0.5) / fine
    weight = tau ** g
    integral = (weight * np.repeat(values, fine)).sum() / weight.sum()
    assert averaged(ema.Power(sigma_rel), values) == pytest.approx(integral, abs=2e-5)


def test_power_rate_keeps_its_digits_after_ten_million_updates():
    t = 10_000_000
    moved = ema.Power(0.1)({"w": jnp.float32(0)}, {"w": jnp.float32(1)}, jnp.int32(t - 1))["w"]
    assert float(moved) == pytest.approx((ema.gamma(0.1) + 1) / t, rel=1e-4)


def test_exponential_halves_in_its_half_life():
    values = np.zeros(50)
    assert averaged(ema.Exponential(half_life=25.0), values) == pytest.approx(250.0, rel=1e-5)


def test_bad_horizons_are_refused():
    with pytest.raises(ConfigError, match="ema.horizon=0.5"):
        ema.gamma(0.5)
    with pytest.raises(ConfigError, match="ema.half_life=0"):
        ema.Exponential(0.0)({}, {}, jnp.int32(0))
