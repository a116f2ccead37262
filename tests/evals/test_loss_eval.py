"""The validation loss as an instrument: the same triplets for everyone, strata in time, an honest standard error."""
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sora_jax.evals import loss
from sora_jax.nn import axes
from sora_jax.objectives import ddpm, flow
from sora_jax.types import Batch

CLIPS, TIMES, SEED = 12, 4, 7
SAME = 1e-6


class Scale(nnx.Module):
    """One number times the input."""

    def __init__(self, value=1.0):
        self.value = axes.param(jax.random.key(0), nnx.initializers.constant(value), (1,), (None,))


@dataclasses.dataclass(frozen=True)
class Probe:
    """`errors` that depend on everything a reader passes: the weights, the clip, its noise and its time."""

    def errors(self, model, batch, t, eps):
        return model.value[0] * t + jnp.mean((batch.x - eps) ** 2, (1, 2, 3, 4)) + 10 * batch.text[:, 0]


@dataclasses.dataclass(frozen=True)
class Clock:
    """The error is the time itself."""

    def errors(self, model, batch, t, eps):
        return t


def batch(clips=CLIPS, seed=0):
    rng = np.random.default_rng(seed)
    text = np.arange(clips, dtype=np.uint8)[:, None] % 5
    return Batch(rng.normal(size=(clips, 2, 2, 2, 3)).astype(np.float32), text, np.ones((clips, 1), bool))


def read(objective, given, value=1.0, **options):
    graph, params = nnx.split(Scale(value))
    options = {"times": TIMES, "seed": SEED} | options
    return np.asarray(loss.reader(graph, objective, given, **options)(nnx.to_pure_dict(params)))


def test_a_reading_is_the_mean_over_its_triplets():
    given = batch()
    t, keys = loss.triplets(given, TIMES, SEED)
    want = [[2 * t[j, i] + np.mean((given.x[i] - np.asarray(jax.random.normal(keys[j], given.x.shape))[i]) ** 2)
             + 10 * given.text[i, 0] for i in range(CLIPS)] for j in range(TIMES)]
    np.testing.assert_allclose(read(Probe(), given, value=2.0), want, rtol=SAME)


@pytest.mark.parametrize("chunk", [1, 3, 4, 5, 64])
def test_chunks_change_nothing(chunk):
    np.testing.assert_allclose(read(Probe(), batch(), chunk=chunk), read(Probe(), batch(), chunk=12), rtol=SAME)


def test_seed_and_number_of_clips_alone_fix_the_triplets():
    t, keys = loss.triplets(batch(), TIMES, SEED)
    again, keys_again = loss.triplets(batch(seed=1)._replace(x=np.zeros((CLIPS, 9, 9, 9, 9))), TIMES, SEED)
    np.testing.assert_array_equal(t, again)
    assert (jax.random.key_data(keys) == jax.random.key_data(keys_again)).all()
    other, keys_other = loss.triplets(batch(), TIMES, SEED + 1)
    assert np.abs(t - other).min() > 0 and (jax.random.key_data(keys) != jax.random.key_data(keys_other)).any()
    assert len({tuple(row) for row in jax.random.key_data(keys).tolist()}) == TIMES


def test_times_are_stratified_and_noise_differs():
    t = np.asarray(loss.triplets(batch(400), 8, SEED)[0])
    assert t.shape == (8, 400)
    for j, row in enumerate(t):
        assert j / 8 <= row.min() < (j + 0.1) / 8 and (j + 0.9) / 8 < row.max() < (j + 1) / 8
    assert len(np.unique(np.modf(t * 8)[0])) > 3000, "levels share their jitter"
    errors = read(Probe(), batch()._replace(x=np.zeros((CLIPS, 2, 2, 2, 3), np.float32)), value=0.0)
    assert len(np.unique(errors)) == CLIPS * TIMES, "clips or levels share their noise"


def test_the_answer_of_a_clock():
    found = loss.evaluate(read(Clock(), batch(512)))
    assert found["val_loss"] == pytest.approx(0.5, abs=0.005)
    np.testing.assert_allclose(found["val_bins"], [0.125, 0.375, 0.625, 0.875], atol=0.01)
    assert found["val_loss"] == pytest.approx(np.mean(found["val_bins"]))
    assert found["val_loss_se"] == pytest.approx(0.25 / 12**0.5 / TIMES**0.5 / 512**0.5, rel=0.1)


def test_the_standard_error_is_over_clips():
    """Levels of a clip are not independent draws: four times the same column is one column."""
    errors = np.array([[1.0, 2.0, 4.0]])
    se = np.std([1, 2, 4], ddof=1) / 3**0.5
    for k in (1, 4):
        found = loss.evaluate(np.repeat(errors, k, 0))
        assert found["val_loss_se"] == pytest.approx(se) and found["val_loss"] == pytest.approx(7 / 3)
    assert loss.evaluate(errors[:, :1])["val_loss_se"] == 0.0


class Blind:
    """A transformer that always predicts zero; `tokenise` is enough of one for an objective."""

    class config:  # noqa: N801
        patch = (1, 2, 2)

    def tokenise(self, x):
        from einops import rearrange
        tokens = rearrange(x, "b f (h p) (w q) c -> b (f h w) (p q c)", p=2, q=2)
        return tokens, jnp.zeros((*tokens.shape[:2], 3))

    def layout(self, shape):
        return shape[0], shape[1] // 2, shape[2] // 2

    def __call__(self, tokens, *_, **__):
        return jnp.zeros_like(tokens)


@pytest.mark.parametrize("objective, want", [(flow.Objective(), 2.0), (ddpm.Objective(), 1.0)])
def test_a_blind_model_reads_the_power_of_its_target(objective, want):
    """The target of flow is eps - x0 (power 1 + 1), that of DDPM is eps (power 1), at every time."""
    given, errors = batch(64), []
    t, keys = loss.triplets(given, TIMES, SEED)
    for level, key in zip(t, keys, strict=True):
        eps = jax.random.normal(key, given.x.shape)
        errors.append(objective.errors(Blind(), Batch(*map(jnp.asarray, given)), level, eps))
    found = loss.evaluate(np.stack(errors))
    assert abs(found["val_loss"] - want) < 4 * found["val_loss_se"]
    np.testing.assert_allclose(found["val_bins"], want, rtol=0.15)
