"""The shift by tokens is eq. 23 of Esser et al. on the straight path, and one step of the log-SNR on every path."""
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion import resolution
from sora_jax.diffusion.path import Cosine, Flow, Karras, LinearVP
from sora_jax.objectives import ddpm, edm, flow

SAME = 1e-3
TIMES = jnp.linspace(0.02, 0.85, 20)


def test_four_times_the_tokens_bear_twice_the_noise():
    assert resolution.factor(4096, 1024) == 2.0 and resolution.factor(256, 1024) == 0.5
    assert resolution.factor(4096, 0) == 1.0
    np.testing.assert_array_equal(resolution.shift(Flow(), TIMES, 1.0), TIMES)


@pytest.mark.parametrize("by", (0.5, 3.0))
def test_on_the_straight_path_it_is_the_paper_s(by):
    np.testing.assert_allclose(resolution.shift(Flow(), TIMES, by), by * TIMES / (1 + (by - 1) * TIMES), rtol=1e-5)
    np.testing.assert_array_equal(resolution.shift(Flow(), jnp.array([0.0, 1.0]), by), [0, 1])


@pytest.mark.parametrize("path", (Flow(), LinearVP(), LinearVP(zero_terminal=True), Cosine(), Karras()), ids=str)
def test_noise_against_data_grows_by_the_factor(path):
    ratio = [path.sigma(t) / path.alpha(t) for t in (TIMES, resolution.shift(path, TIMES, 2.0))]
    np.testing.assert_allclose(ratio[1], 2 * ratio[0], rtol=SAME)


def test_objectives_shift_with_the_tokens_of_a_clip(key):
    """Films of four times the tokens, be they longer or larger: twice the ratio of noise to data; the base: none."""
    objective = flow.Objective(shift_tokens=64)
    plain, base, large = (made.times(key, 8, tokens) for made, tokens in
                          ((flow.Objective(), 256), (objective, 64), (objective, 256)))
    np.testing.assert_array_equal(base, plain)
    np.testing.assert_allclose(large / (1 - large), 2 * plain / (1 - plain), rtol=SAME)
    plain, large = (made.times(key, 8, 256) for made in (edm.Objective(), edm.Objective(shift_tokens=64)))
    path = edm.Objective().path
    np.testing.assert_allclose(path.level(large), 2 * path.level(plain), rtol=SAME)


@pytest.mark.parametrize("fields", ({}, {"kind": "v", "zero_terminal": True}, {"schedule": "cosine"}), ids=str)
def test_chains_keep_their_steps(key, fields):
    t = ddpm.Objective(shift_tokens=64, steps=50, **fields).times(key, 500, 256) * 50
    plain = ddpm.Objective(steps=50, **fields).times(key, 500, 256) * 50
    np.testing.assert_allclose(t, jnp.round(t), atol=1e-4)
    assert t.min() >= 1 and t.max() <= 50 + 1e-4 and t.mean() > plain.mean() + 2
