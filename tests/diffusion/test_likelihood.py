"""The probability flow gives the log density of a Gaussian mixture, exactly or by random signs."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion.likelihood import divergence, log_density
from sora_jax.diffusion.path import Flow, LinearVP

MEANS, STDS = np.array([[-0.8, 0.3, 0.0], [0.6, -0.4, 0.9]]), np.array([0.4, 0.7])
START, NATS = 1e-3, 5e-3
PATHS = {"flow": Flow(), "vp": LinearVP()}
END = {"flow": NATS, "vp": 2e-2}  # LinearVP ends with a thousandth of the data's variance in its noise, and has kinks


def denoise(path, x, t):
    """E[x0 | x_t] and its noise for two round Gaussians, half and half, in three dimensions `b 3`."""
    alpha, sigma = path.alpha(t), path.sigma(t)
    variance = alpha**2 * STDS**2 + sigma**2
    off = x[:, None] - alpha * MEANS
    share = jax.nn.softmax(-0.5 * (off**2).sum(-1) / variance - 1.5 * jnp.log(variance))
    x0 = (share[..., None] * (MEANS + (alpha * STDS**2 / variance)[:, None] * off)).sum(axis=1)
    return x0, (x - alpha * x0) / sigma


def truth(path, x, t):
    """The log density at time t in numpy."""
    alpha, sigma = (float(weight(jnp.float32(t))) for weight in (path.alpha, path.sigma))
    variance = alpha**2 * STDS**2 + sigma**2
    off = np.asarray(x)[:, None] - alpha * MEANS
    each = -0.5 * (off**2).sum(-1) / variance - 1.5 * np.log(2 * np.pi * variance)
    return np.logaddexp(*(each + np.log(0.5)).T)


@pytest.fixture(scope="module")
def clips():
    rng = np.random.default_rng(0)
    which = rng.choice(2, 64)
    return jnp.asarray(MEANS[which] + STDS[which][:, None] * rng.normal(size=(64, 3)), jnp.float32)


@pytest.mark.parametrize("kind", PATHS)
def test_the_density_of_a_mixture(kind, clips):
    path = PATHS[kind]
    times = START + (1 - START) * jnp.linspace(0, 1, 201) ** 2
    got = jax.jit(lambda x: log_density(lambda x, t: denoise(path, x, t), x, times, path))(clips)
    np.testing.assert_allclose(got, truth(path, clips, START), atol=END[kind])


def test_random_signs_are_right_on_average(clips, key):
    path, times = Flow(), START + (1 - START) * jnp.linspace(0, 1, 101) ** 2
    def run(probes, key):
        return jax.jit(lambda x: log_density(lambda x, t: denoise(path, x, t), x, times, path, key, probes))(clips)
    exact, one, many = run(0, None), run(1, key), run(64, key)
    assert jnp.abs(one - exact).max() > 10 * NATS, "one draw of signs is not the trace"
    assert jnp.abs(many - exact).mean() < 0.3 * jnp.abs(one - exact).mean()
    assert abs(float((many - exact).mean())) < 0.05


def test_the_divergence_of_a_linear_field_is_its_trace(key):
    matrix = jax.random.normal(key, (6, 6))
    x = jax.random.normal(key, (3, 2, 3))

    def field(x):
        return (x.reshape(3, 6) @ matrix.T).reshape(3, 2, 3) * jnp.arange(1.0, 4.0)[:, None, None]

    want = jnp.trace(matrix) * jnp.arange(1.0, 4.0)
    np.testing.assert_allclose(divergence(field, x), want, rtol=1e-4)
    diagonal = jax.random.rademacher(key, (5, *x.shape), jnp.float32)
    np.testing.assert_allclose(divergence(lambda x: 2.0 * x, x, diagonal), jnp.full(3, 12.0), rtol=1e-6)


def test_signs_need_a_key(clips):
    with pytest.raises(ValueError, match="key"):
        log_density(lambda x, t: denoise(Flow(), x, t), clips, jnp.array([0.1, 1.0]), Flow(), probes=2)
