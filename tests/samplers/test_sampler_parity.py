"""The multistep samplers beside diffusers' on the straight path: the same times and the same denoiser."""
import functools

import jax
import jax.numpy as jnp
import mixtures
import numpy as np
import pytest

from sora_jax import registry
from sora_jax.diffusion.path import Flow

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

THEIRS = {"dpmpp": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_type": "midpoint"}),
          "unipc": ("UniPCMultistepScheduler", {"solver_type": "bh2"})}
STEPS, APART = 20, 2e-5


@pytest.mark.parametrize("name", THEIRS)
def test_a_sampler_walks_as_theirs_does(name):
    kind, options = THEIRS[name]
    scheduler = getattr(diffusers, kind)(use_flow_sigmas=True, prediction_type="flow_prediction", solver_order=2,
                                         final_sigmas_type="zero", **options)
    scheduler.set_timesteps(STEPS)
    times, start = np.asarray(scheduler.sigmas, np.float32), np.linspace(-1.5, 1.5, 13).astype(np.float32)[None]
    denoise = jax.jit(functools.partial(mixtures.denoise, Flow()))
    x = torch.from_numpy(start)
    for level, moment in zip(times[:-1], scheduler.timesteps, strict=True):
        x0, eps = denoise(jnp.asarray(x.numpy()), jnp.float32(level))
        x = scheduler.step(torch.from_numpy(np.array(eps - x0)), moment, x).prev_sample
    sample = registry.load("samplers", name).sample
    got = sample(denoise, jnp.asarray(start), jnp.asarray(times), Flow(), jax.random.key(0))
    np.testing.assert_allclose(got, x.numpy(), atol=APART)
