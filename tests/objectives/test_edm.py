"""The EDM objective is table 1 of Karras et al. 2022, written out here in its own letters and in float64."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from sora_jax import registry
from sora_jax.diffusion.path import Karras, corrupt, split, target
from sora_jax.objectives import edm, flow

LEVELS = np.array([0.003, 0.05, 0.3, 0.8, 2.0, 9.0, 70.0])
SAME, FINE = 2e-3, 1e-4


def table(sigma, sigma_data):
    """c_skip, c_out, c_in and lambda, as the table has them."""
    both = sigma**2 + sigma_data**2
    return (sigma_data**2 / both, sigma * sigma_data / np.sqrt(both), 1 / np.sqrt(both),
            both / (sigma * sigma_data) ** 2)


@pytest.mark.parametrize("sigma_data", [1.0, 0.5])
def test_path_and_kind_are_the_preconditioning(sigma_data):
    rng = np.random.default_rng(0)
    x0, eps, f = rng.normal(size=(3, len(LEVELS), 6)) * np.array([sigma_data, 1, 1])[:, None, None]
    c_skip, c_out, c_in, weight = (part[:, None] for part in table(LEVELS, sigma_data))
    x = x0 + LEVELS[:, None] * eps
    path = Karras(0.002, 80.0, 7.0, sigma_data)
    t = path.time(-jnp.log(jnp.asarray(LEVELS)))
    np.testing.assert_allclose(path.level(t), LEVELS, rtol=FINE)
    single = [jnp.asarray(part, jnp.float32) for part in (x0, eps, f)]
    np.testing.assert_allclose(corrupt(path, *single[:2], t), c_in * x, atol=FINE)
    np.testing.assert_allclose(target(path, "edm", *single[:2], t), (x0 - c_skip * x) / c_out, atol=FINE)
    denoised, noise = split(path, "edm", single[2], jnp.asarray(c_in * x, jnp.float32), t)
    want = c_skip * x + c_out * f
    np.testing.assert_allclose(denoised, want, atol=SAME)
    np.testing.assert_allclose(noise, (x - want) / LEVELS[:, None], atol=SAME)
    np.testing.assert_allclose(weight * c_out**2, 1, rtol=1e-12)


class Recorder:
    """A network with an answer that depends on what it is given, and a memory of both."""

    tokenise, layout = staticmethod(tiny.fresh().tokenise), staticmethod(tiny.fresh().layout)

    def __call__(self, tokens, places, levels, *rest, layout):
        answer = jnp.sin(3 * tokens) + levels[:, 1, None, None]
        self.seen = tokens, levels[:, 1], answer
        return answer


@pytest.mark.parametrize("kind,weight", [("edm", "none"), ("edm", "edm"), ("x0", "edm"), ("v", "edm"), ("eps", "edm")])
def test_loss_is_eq_8(key, kind, weight):
    """E lambda |D - x0|^2 of the denoiser D that the network is part of, from what the network saw and said."""
    clips = tiny.batch(captions=("",) * 32)
    objective = edm.Objective(kind=kind, weight=weight, known=(1.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    recorder = Recorder()
    loss, _ = objective.loss(recorder, clips, key)
    c_in_x, t, answer = recorder.seen
    level = np.asarray(objective.path.level(t), float)[:, None, None]
    c_skip, c_out, c_in, lam = table(level, 1.0)
    clean, x = np.asarray(Recorder.tokenise(clips.x)[0], float), np.asarray(c_in_x, float) / c_in
    answer = np.asarray(answer, float)
    denoiser = {"edm": c_skip * x + c_out * answer, "x0": answer, "eps": x - level * answer,
                "v": c_skip * x - c_out * answer}[kind]
    assert loss == pytest.approx(np.mean(lam * (denoiser - clean) ** 2), rel=SAME)


def test_levels_are_log_normal(key):
    objective = edm.Objective(p_mean=-0.7, p_std=0.9)
    log_level = jnp.log(objective.path.level(objective.times(key, 4096, 12)))
    assert log_level.mean() == pytest.approx(-0.7, abs=0.01) and log_level.std() == pytest.approx(0.9, abs=0.01)
    wild = edm.Objective(p_std=6.0).times(key, 512, 12)
    assert jnp.isfinite(wild).all() and wild.min() >= 0 and wild.max() == 1, "levels beyond the path are at its ends"


def test_log_normal_levels_are_logit_normal_times(key):
    """On data of unit variance both objectives ask for the same noise: log level = logit t."""
    ours, straight = edm.Objective(p_mean=0.6, p_std=1.4), flow.Objective(mean=0.6, std=1.4)
    ratio = [made.path.log_snr(made.times(key, 256, 12)) for made in (ours, straight)]
    np.testing.assert_allclose(ratio[0], ratio[1], atol=SAME)


@pytest.mark.parametrize("name", registry.names("samplers"))
def test_samplers_find_the_data_of_a_perfect_network(key, name):
    """With the F of a single clean clip, every sampler ends on it."""
    path, clean = edm.Objective().path, jnp.array([[[0.5, -1.0, 2.0]]])

    def denoise(x, t):
        eps = (x - path.alpha(t) * clean) / jnp.maximum(path.sigma(t), 1e-6)
        prediction = target(path, "edm", jnp.broadcast_to(clean, x.shape), eps, jnp.broadcast_to(t, x.shape[:1]))
        return split(path, "edm", prediction, x, t)

    times = jnp.linspace(1.0, 0.0, 41)
    out = registry.load("samplers", name).sample(denoise, jax.random.normal(key, clean.shape), times, path, key)
    np.testing.assert_allclose(out, clean, atol=0.05)
