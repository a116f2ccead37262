"""The autoencoder's objective: each term against its definition, pixels of both types, and the place for features."""
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.objectives.vae import Objective
from sora_jax.types import Batch, ConfigError

EXACT, SAMPLED = 1e-6, 0.01
SHAPE = (2, 3, 4, 4, 3)


@dataclasses.dataclass
class Fixed:
    """A model that gives the same reconstruction and moments whatever it sees."""

    back: jax.Array
    mean: jax.Array = dataclasses.field(default_factory=lambda: jnp.zeros((2, 1, 1, 1, 4)))
    logvar: jax.Array = dataclasses.field(default_factory=lambda: jnp.zeros((2, 1, 1, 1, 4)))

    def __call__(self, x, key):
        assert x.dtype == jnp.float32 and x.shape == self.back.shape
        return self.back, self.mean, self.logvar


def batch(x):
    return Batch(jnp.asarray(x), jnp.zeros((len(x), 1), jnp.uint8), jnp.zeros((len(x), 1), bool))


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    x, back = (rng.uniform(-1, 1, SHAPE).astype(np.float32) for _ in range(2))
    mean, logvar = (jnp.asarray(rng.normal(size=(2, 2, 2, 2, 4)).astype(np.float32)) for _ in range(2))
    return x, Fixed(jnp.asarray(back), mean, logvar)


def test_each_kind_is_its_distance(drawn):
    x, model = drawn
    error = np.asarray(model.back, np.float64) - x
    want = {"l1": np.abs(error).mean(), "l2": (error**2).mean(), "l1l2": np.abs(error).mean() + (error**2).mean()}
    for kind, value in want.items():
        loss, scalars = Objective(kind=kind, kl=0.0).loss(model, batch(x), jax.random.key(0))
        assert float(loss) == pytest.approx(value, rel=EXACT)
        assert float(scalars["l1"]) == pytest.approx(want["l1"], rel=EXACT)
        assert float(scalars["l2"]) == pytest.approx(want["l2"], rel=EXACT)


def test_the_divergence_is_what_samples_say(drawn):
    """KL = E_q[log q - log p] per latent element, by a million draws from q."""
    x, model = drawn
    mean, deviation = np.asarray(model.mean, np.float64), np.exp(0.5 * np.asarray(model.logvar, np.float64))
    noise = np.random.default_rng(1).normal(size=(20_000, *mean.shape))
    z = mean + deviation * noise
    log_q = -0.5 * noise**2 - np.log(deviation)
    sampled = (log_q + 0.5 * z**2).mean()
    scalars = Objective().loss(model, batch(x), jax.random.key(0))[1]
    assert float(scalars["kl"]) == pytest.approx(sampled, rel=SAMPLED)
    losses = [float(Objective(kl=weight).loss(model, batch(x), jax.random.key(0))[0]) for weight in (0.0, 0.25)]
    assert losses[1] - losses[0] == pytest.approx(0.25 * float(scalars["kl"]), rel=1e-4)


def test_a_posterior_like_the_prior_costs_nothing():
    scalars = Objective().loss(Fixed(jnp.zeros(SHAPE)), batch(np.zeros(SHAPE, np.float32)), jax.random.key(0))[1]
    assert float(scalars["kl"]) == 0.0


@pytest.mark.parametrize("off, decibels", [(0.2, 20.0), (0.02, 40.0), (2.0, 0.0)])
def test_psnr_by_hand(off, decibels):
    """Pixels in [-1, 1], peak 2: an error of 0.2 everywhere is a tenth of the peak, 20 dB."""
    x = np.full(SHAPE, -1, np.float32)
    scalars = Objective().loss(Fixed(jnp.asarray(x + off)), batch(x), jax.random.key(0))[1]
    assert float(scalars["psnr"]) == pytest.approx(decibels, abs=1e-3)


def test_psnr_is_of_pixels_that_can_be_shown():
    x = np.full(SHAPE, 0.8, np.float32)
    over = Objective().loss(Fixed(jnp.full(SHAPE, 5.0)), batch(x), jax.random.key(0))[1]
    at_the_edge = Objective().loss(Fixed(jnp.full(SHAPE, 1.0)), batch(x), jax.random.key(0))[1]
    assert float(over["psnr"]) == pytest.approx(float(at_the_edge["psnr"])) == pytest.approx(20.0, abs=1e-3)
    assert float(over["l1"]) == pytest.approx(4.2, rel=EXACT), "the loss itself is not clipped"


def test_bytes_become_pixels_between_minus_one_and_one():
    x = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    x.flat[:2] = 0, 255
    exact = jnp.asarray(x.astype(np.float32) / 127.5 - 1)
    assert exact.min() == -1 and exact.max() == 1
    scalars = Objective().loss(Fixed(exact), batch(x), jax.random.key(0))[1]
    assert float(scalars["l1"]) < EXACT
    floats = Objective().loss(Fixed(exact), batch(exact), jax.random.key(0))[1]
    assert float(floats["l1"]) == 0.0


def test_a_perceptual_distance_has_its_place(drawn):
    x, model = drawn
    seen = []

    def distance(a, b):
        seen.append((a, b))
        return jnp.float32(3.0)

    plain = Objective().loss(model, batch(x), jax.random.key(0))[0]
    loss, scalars = Objective(perceptual=distance, perceptual_weight=0.5).loss(model, batch(x), jax.random.key(0))
    assert float(loss - plain) == pytest.approx(1.5, rel=1e-4) and float(scalars["perceptual"]) == 3.0
    np.testing.assert_array_equal(seen[0][0], x)
    np.testing.assert_array_equal(seen[0][1], model.back)


def test_the_error_that_comes_and_goes(drawn):
    x, model = drawn
    plain, scalars = Objective().loss(model, batch(x), jax.random.key(0))
    assert "temporal" not in scalars
    want = np.abs(np.diff(np.asarray(model.back, np.float64) - x, axis=1)).mean()
    loss, scalars = Objective(temporal_weight=0.5).loss(model, batch(x), jax.random.key(0))
    assert float(scalars["temporal"]) == pytest.approx(want, rel=EXACT)
    assert float(loss - plain) == pytest.approx(0.5 * want, rel=1e-4)
    steady = Objective(temporal_weight=0.5).loss(Fixed(jnp.asarray(x + 0.25)), batch(x), jax.random.key(0))[1]
    assert float(steady["temporal"]) < EXACT
    still = Objective(temporal_weight=0.5).loss(Fixed(model.back[:, :1]), batch(x[:, :1]), jax.random.key(0))
    assert np.isfinite(still[0]) and "temporal" not in still[1]


def test_what_cannot_be_minimised_is_refused():
    with pytest.raises(ConfigError, match="objective.kind='l3' is not one of l1, l2, l1l2"):
        Objective(kind="l3")
    for wrong in ({"perceptual_weight": 1.0}, {"perceptual": lambda a, b: 0.0}):
        with pytest.raises(ConfigError, match="perceptual_weight needs a perceptual distance"):
            Objective(**wrong)
    with pytest.raises(ConfigError, match="objective.temporal_weight=-1.0 must not be negative"):
        Objective(temporal_weight=-1.0)


def test_the_sample_is_what_is_reconstructed():
    """The key reaches the model, and gradients reach mean and log-variance through the sample."""
    x = jnp.zeros((4, 1, 1, 1, 3))

    def loss(moments, key):
        def model(x, key):
            mean, logvar = (jnp.broadcast_to(m, x.shape) for m in moments)
            return mean + jnp.exp(0.5 * logvar) * jax.random.normal(key, x.shape), mean, logvar
        return Objective(kind="l2", kl=0.0).loss(model, batch(x), key)[0]

    slopes = [jax.grad(loss)((0.3, -1.0), jax.random.key(seed)) for seed in (0, 0, 1)]
    assert slopes[0] == slopes[1] != slopes[2] and all(abs(s) > 1e-3 for s in slopes[0])
