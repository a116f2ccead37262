"""Grids run from noise to data, evenly in what they are even in, on every path; lambda and its inverse agree."""
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion import grids
from sora_jax.diffusion.path import Flow, LinearVP
from sora_jax.types import ConfigError

PATHS = (Flow(), LinearVP())
SPACING = 2e-3  # of a step, relative


@pytest.mark.parametrize("shift", [1.0, 3.0, 0.5])
def test_shifted_is_linear_then_shifted(shift):
    t = grids.shifted(8, shift)
    assert len(t) == 9 and t[0] == 1.0 and t[-1] == 0.0 and (jnp.diff(t) < 0).all()
    assert t[4] == pytest.approx(shift / (1 + shift))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
@pytest.mark.parametrize("name", grids.GRIDS)
@pytest.mark.parametrize("steps", [1, 2, 7, 60])
def test_every_grid_runs_from_noise_to_data(path, name, steps):
    t = grids.grid(name, steps, path)
    assert t.shape == (steps + 1,) and t.dtype == jnp.float32
    assert t[0] == 1.0 and t[-1] == 0.0 and (jnp.diff(t) < 0).all()


@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
def test_nodes_are_where_the_paper_has_them(path):
    """Eq. 5 in float64, between the bounds of the paper or what the path has."""
    low, high, steps = max(grids.LOW, float(path.sigma(jnp.float32(1e-3)) / path.alpha(jnp.float32(1e-3)))), 80.0, 9
    share = np.arange(1, steps) / (steps - 1)
    want = (high ** (1 / 7) + share * (low ** (1 / 7) - high ** (1 / 7))) ** 7
    np.testing.assert_allclose(np.exp(-path.log_snr(grids.karras(steps, path)[1:-1])), want, rtol=SPACING)
    even = -np.log(high) + share * np.log(high / low)
    got = path.log_snr(grids.uniform_log_snr(steps, path)[1:-1])
    np.testing.assert_allclose(got, even, rtol=SPACING, atol=SPACING)


def test_an_unknown_grid_is_refused():
    with pytest.raises(ConfigError, match="sampler.grid='karas' is not one of shifted, karras, log-snr"):
        grids.grid("karas", 4, Flow())
