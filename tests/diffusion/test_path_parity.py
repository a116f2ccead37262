"""Beside the schedules, preconditioning and densities of diffusers. Skipped without torch and diffusers."""
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion import times, weighting
from sora_jax.diffusion.path import Cosine, Karras, LinearVP, corrupt, split

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
SAME = 3e-4
LINEAR = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}


@pytest.mark.parametrize("path, options", [
    (LinearVP(), LINEAR), (LinearVP(zero_terminal=True), {**LINEAR, "rescale_betas_zero_snr": True}),
    (Cosine(), {"beta_schedule": "squaredcos_cap_v2"})], ids=("linear", "zero", "cosine"))
def test_chains_are_theirs(path, options):
    theirs = diffusers.DDIMScheduler(**options).alphas_cumprod.double().numpy()
    np.testing.assert_allclose(path.alpha(jnp.arange(1, 1001) / 1000) ** 2, theirs, rtol=2e-3, atol=3e-7)


@pytest.mark.parametrize("sigma_data", (1.0, 0.5))
def test_preconditioning_is_theirs(sigma_data):
    scheduler = diffusers.EDMEulerScheduler(sigma_data=sigma_data)
    path, rng = Karras(0.002, 80.0, 7.0, sigma_data), np.random.default_rng(0)
    for level in (0.02, 0.4, 3.0, 50.0):
        x0, eps, output = rng.normal(size=(3, 1, 5)).astype(np.float32)
        sample = torch.from_numpy(x0 + level * eps)
        t = path.time(-jnp.log(jnp.array([level])))
        xt = corrupt(path, jnp.asarray(x0), jnp.asarray(eps), t)
        np.testing.assert_allclose(xt, scheduler.precondition_inputs(sample, level), atol=SAME)
        denoised = scheduler.precondition_outputs(sample, torch.from_numpy(output), torch.tensor(level))
        np.testing.assert_allclose(split(path, "edm", jnp.asarray(output), xt, t)[0], denoised, atol=20 * SAME)


def test_mode_is_theirs(monkeypatch, key):
    from diffusers.training_utils import compute_density_for_timestep_sampling

    u = np.linspace(0, 1, 33, dtype=np.float32)
    monkeypatch.setattr(torch, "rand", lambda **_: torch.from_numpy(u))
    monkeypatch.setattr(times, "quantiles", lambda key, count: jnp.asarray(u))
    theirs = compute_density_for_timestep_sampling("mode", 33, mode_scale=1.29)
    np.testing.assert_allclose(times.mode(key, 33), theirs, atol=1e-6)


def test_snr_is_theirs():
    from diffusers.training_utils import compute_snr

    at = torch.tensor([0, 99, 499, 899])
    snr = compute_snr(diffusers.DDPMScheduler(**LINEAR), at).numpy()
    got = weighting.weight(LinearVP(), "eps", jnp.asarray((at.numpy() + 1) / 1000), "min-snr", 5.0)
    np.testing.assert_allclose(got, np.minimum(snr, 5.0) / snr, rtol=3e-3)
