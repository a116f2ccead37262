"""diffusers' DiT and Wan transformers and ours, side by side; skipped where diffusers is not installed."""
import dit_cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sora_jax import bridge, registry
from sora_jax.diffusion.path import LinearVP, split
from sora_jax.models import labels

NEEDS = "needs torch and diffusers: pip install -e '.[parity]'"
torch = pytest.importorskip("torch", reason=NEEDS)
diffusers = pytest.importorskip("diffusers", reason=NEEDS)

PARITY, SAME = 1e-4, 1e-5


@pytest.mark.parametrize("name", dit_cases.CASES)
def test_the_reference_is_what_diffusers_says(name):
    model, named = dit_cases.foreign(name)
    assert named == dit_cases.shapes(name)
    said, stored = dit_cases.answers(model, name), dit_cases.reference(name)
    assert set(said) == set(stored)
    assert max(dit_cases.largest(said[key], stored[key]) for key in stored) <= SAME


@pytest.mark.parametrize("name", dit_cases.CASES)
def test_what_is_exported_is_loaded_by_diffusers(name, tmp_path):
    model, config = dit_cases.ours(name)
    layout = dit_cases.LAYOUTS[name.partition(",")[0]][0]
    bridge.write_folder(tmp_path, layout, bridge.layout(layout).from_run(config.to_dict()),
                        nnx.to_pure_dict(nnx.state(model)))
    kind = getattr(diffusers, dit_cases.CASES[name].title)
    there, said = kind.from_pretrained(tmp_path, output_loading_info=True)
    assert not said["missing_keys"] and not said["unexpected_keys"] and not said["mismatched_keys"]
    again, stored = dit_cases.answers(there.eval(), name), dit_cases.reference(name)
    assert max(dit_cases.largest(again[key], stored[key]) for key in stored) <= SAME


@pytest.mark.parametrize("name", [name for name in dit_cases.CASES if name.startswith("dit")])
def test_ten_steps_of_ddim_end_where_diffusers_ends(name):
    """The same noise, labels and chain of a thousand steps. The foreign chain stops before its first step's noise is
    gone, at index 0, and is told to take the last step to the data itself, as ours does."""
    there, (model, _) = dit_cases.foreign(name)[0], dit_cases.ours(name)
    scheduler = diffusers.DDIMScheduler(1000, 1e-4, 0.02, "linear", clip_sample=False, set_alpha_to_one=True,
                                        timestep_spacing="trailing")
    scheduler.set_timesteps(10)
    noise = dit_cases.inputs(name, dit_cases.CASES[name].sizes[0])["latents"]
    x = torch.from_numpy(np.ascontiguousarray(np.moveaxis(noise[:, 0], -1, 1)))
    with torch.no_grad():
        for step in scheduler.timesteps:
            out = there(x, timestep=step.expand(2), class_labels=torch.tensor(dit_cases.LABELS)).sample[:, :4]
            x = scheduler.step(out, step, x).prev_sample
    want = np.moveaxis(x.numpy(), 1, -1)[:, None]

    path, tokens = LinearVP(1000), model.tokenise(jnp.asarray(noise))
    text = [jnp.asarray(part) for part in labels.tokenize([str(label) for label in dit_cases.LABELS])]

    def denoise(x, t):
        levels, level = jnp.broadcast_to(t, (2, 1)), jnp.zeros(x.shape[:2], int)
        return split(path, "eps", model(x, tokens[1], levels, level, *text), x, t)

    times = jnp.asarray([*(np.asarray(scheduler.timesteps) + 1) / 1000, 0.0], jnp.float32)
    sample = registry.load("samplers", "ddim").sample
    got = jax.jit(lambda x: sample(denoise, x, times, path, jax.random.key(0)))(tokens[0])
    found = dit_cases.largest(model.untokenise(got, noise.shape[1:4]), want)
    print(name, f"{found:.1e}")
    assert found <= PARITY
