"""diffusers' AutoencoderKLWan and ours, side by side; skipped where diffusers is not installed."""
import jax.numpy as jnp
import numpy as np
import pytest
import wan_cases
from flax import nnx

from sora_jax import bridge

NEEDS = "needs torch and diffusers: pip install -e '.[parity]'"
pytest.importorskip("torch", reason=NEEDS)
diffusers = pytest.importorskip("diffusers", reason=NEEDS)

PARITY, SAME = 1e-4, 1e-5


@pytest.mark.parametrize("name", wan_cases.CASES)
def test_the_reference_is_what_diffusers_says(name):
    model, named = wan_cases.foreign(name)
    assert named == wan_cases.shapes(name)
    for frames in wan_cases.FRAMES:
        said, stored = wan_cases.answers(model, name, frames), wan_cases.reference(name, frames)
        assert max(wan_cases.largest(said[key], stored[key]) for key in stored) <= SAME


@pytest.mark.parametrize("name", wan_cases.CASES)
def test_nine_frames_are_three_chunks_there_and_one_here(name):
    model, vae = wan_cases.foreign(name)[0], wan_cases.ours(name)[0]
    said = wan_cases.answers(model, name, 9)
    mean, logvar = vae.moments(jnp.asarray(wan_cases.clip(9)))
    pixels = vae.decode((wan_cases.latents(name, 9) - vae.mean[...]) / vae.std[...])
    for key, value in (("mean", mean), ("logvar", logvar), ("pixels", pixels)):
        assert wan_cases.largest(value, said[key]) <= PARITY


@pytest.mark.parametrize("name", wan_cases.CASES)
def test_what_is_exported_is_loaded_by_diffusers(name, tmp_path):
    vae, config = wan_cases.ours(name)
    bridge.write_folder(tmp_path, "diffusers-wan-vae", config.vae.to_dict(), nnx.to_pure_dict(nnx.state(vae)))
    model, said = diffusers.AutoencoderKLWan.from_pretrained(tmp_path, output_loading_info=True)
    assert not said["missing_keys"] and not said["unexpected_keys"] and not said["mismatched_keys"]
    np.testing.assert_allclose(model.config.latents_mean, wan_cases.config(name)["latents_mean"], rtol=1e-6)
    again = wan_cases.answers(model.eval(), name, 17)
    stored = wan_cases.reference(name, 17)
    assert max(wan_cases.largest(again[key], stored[key]) for key in stored) <= SAME
