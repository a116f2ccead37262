"""Weights are those of their papers for every kind, and the gain is how errors of one kind become those of another."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion import weighting
from sora_jax.diffusion.path import KINDS, Cosine, Flow, Karras, LinearVP, corrupt, split, target

PATHS = (Flow(), LinearVP(), LinearVP(zero_terminal=True), Cosine(), Karras(), Karras(0.002, 80.0, 7.0, 0.5))
TIMES = jnp.linspace(0.05, 0.95, 12)
GAMMA = 3.0
SAME = 1e-3


@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_errors_of_one_kind_are_those_of_another(key, path, kind):
    """A wrong prediction, turned into every other kind, is wrong by what `exchange` says."""
    x0, eps, wrong = jax.random.normal(key, (3, len(TIMES), 16))
    xt, true = corrupt(path, x0, eps, TIMES), target(path, kind, x0, eps, TIMES)
    error = jnp.mean(jnp.square(wrong), axis=1)
    for other in KINDS:
        there = target(path, other, *split(path, kind, true + wrong, xt, TIMES), TIMES)
        got = jnp.mean(jnp.square(there - target(path, other, x0, eps, TIMES)), axis=1)
        np.testing.assert_allclose(got, weighting.exchange(path, kind, other, TIMES) * error, rtol=SAME)


@pytest.mark.parametrize("path", (LinearVP(), Cosine(), Karras()), ids=str)
def test_min_snr_is_the_paper_s_for_every_kind(path):
    """Hang et al. 2023, section 3.4 and appendix: min(SNR, gamma) on x0, over SNR on eps, over SNR + 1 on v."""
    snr = (path.alpha(TIMES) / path.sigma(TIMES)) ** 2
    assert (snr > GAMMA).any() and (snr < GAMMA).any()
    for kind, under in {"x0": 1, "eps": snr, "v": snr + 1, "edm": snr + 1}.items():
        got = weighting.weight(path, kind, TIMES, "min-snr", GAMMA)
        np.testing.assert_allclose(got, jnp.minimum(snr, GAMMA) / under, rtol=SAME)


def test_min_snr_on_the_straight_path():
    got = weighting.weight(Flow(), "flow", TIMES, "min-snr", GAMMA)
    np.testing.assert_allclose(got, jnp.minimum(((1 - TIMES) / TIMES) ** 2, GAMMA) * TIMES**2, rtol=SAME)


@pytest.mark.parametrize("sigma_data", (1.0, 0.5))
def test_edm_is_lambda_of_the_paper(sigma_data):
    path = Karras(0.002, 80.0, 7.0, sigma_data)
    level = path.level(TIMES)
    want = (level**2 + sigma_data**2) / (level * sigma_data) ** 2
    np.testing.assert_allclose(weighting.weight(path, "x0", TIMES, "edm"), want, rtol=SAME)
    np.testing.assert_allclose(weighting.weight(path, "edm", TIMES, "edm"), 1.0, rtol=SAME)


@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize("name", weighting.WEIGHTS)
def test_weights_are_finite_at_the_ends(path, name):
    for kind in ("x0", "v", "edm"):
        assert jnp.isfinite(weighting.weight(path, kind, jnp.array([0.0, 1.0]), name)).all(), kind
