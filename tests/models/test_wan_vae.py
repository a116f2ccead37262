"""The autoencoder of Wan's layout is the published function, whole and streamed, and its counts are exact."""
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import wan_cases
from flax import nnx
from test_video_vae import convolution_flops

from sora_jax import streaming
from sora_jax.models import wan_vae
from sora_jax.models.wan_vae import Config
from sora_jax.types import ConfigError

PARITY = 1e-4
CASES = list(wan_cases.CASES)


@jax.jit
def moments(vae, x):
    return vae.moments(x)


@jax.jit
def decode(vae, z):
    return vae.decode((z - vae.mean[...]) / vae.std[...])


@pytest.mark.parametrize("name, frames", [(name, frames) for name in CASES for frames in wan_cases.FRAMES])
def test_it_is_the_published_function(name, frames):
    vae, want = wan_cases.ours(name)[0], wan_cases.reference(name, frames)
    mean, logvar = moments(vae, wan_cases.clip(frames))
    found = {"mean": mean, "logvar": logvar, "pixels": decode(vae, wan_cases.latents(name, frames))}
    errors = {key: wan_cases.largest(found[key], want[key]) for key in want}
    print(name, frames, {key: f"{error:.1e}" for key, error in errors.items()})
    assert all(found[key].shape == want[key].shape for key in want) and max(errors.values()) <= PARITY, errors
    assert (np.abs(want["pixels"]) == 1).mean() < 0.05 and min(value.std() for value in want.values()) > 0.1


def test_streamed_it_is_the_published_function():
    name = "unequal sides"
    vae, want = wan_cases.ours(name)[0], wan_cases.reference(name, 17)
    z = (wan_cases.latents(name, 17) - vae.mean[...]) / vae.std[...]
    assert wan_cases.largest(streaming.decode(vae, z, 2), want["pixels"]) <= PARITY
    coded = streaming.encode(vae, wan_cases.clip(17), 2) * vae.std[...] + vae.mean[...]
    assert wan_cases.largest(coded, want["mean"]) <= PARITY


def test_the_default_is_the_published_size():
    """127 million parameters; a third of the width has 14 222 387 in diffusers, which keeps no statistics there."""
    third = Config(encoder=(32, 64, 128, 128), decoder=(32, 64, 128, 128))
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(nnx.state(nnx.eval_shape(
        lambda: wan_vae.build(config, rngs=nnx.Rngs(0)))))) for config in (Config(), third)]  # noqa: B023
    assert round(sizes[0] / 1e6) == 127 and sizes[1] == 14_222_387 + 32
    assert Config().ratio == (4, 8, 8) and wan_vae.latent_shape(Config(), 81, 480, 832) == (21, 60, 104, 16)


@pytest.mark.parametrize("frames", [1, 9])
@pytest.mark.parametrize("name", ["published at width 8", "unequal sides"])
def test_flops_are_what_the_program_does(name, frames):
    """The program of accelerators: on CPU there are fewer."""
    config = dataclasses.replace(wan_cases.ours(name)[0].config, conv="native")
    vae = wan_vae.build(config, rngs=nnx.Rngs(0))
    expected = wan_vae.flops(vae.config, frames, 16, 24)
    z = jax.ShapeDtypeStruct((1, *wan_vae.latent_shape(vae.config, frames, 16, 24)), jnp.float32)
    for side, given in (("encoder", jax.ShapeDtypeStruct((1, frames, 16, 24, 3), jnp.float32)), ("decoder", z)):
        program = jax.make_jaxpr(lambda a: getattr(vae, side)(a))(given)  # noqa: B023
        assert convolution_flops(program.jaxpr) == expected[side]


@pytest.mark.parametrize("fields, words", [
    ({"time": (2, 2)}, "one width per stage"), ({"patch": 4}, "patch 1"), ({"space": (2, 2, 1)}, "halves space"),
    ({"time": (1, 2, 4)}, "halves space"), ({"decoder": (96, 192, 384, 383)}, "make it even"),
    ({"conv": "x"}, "native"),
])
def test_what_is_not_this_layout_is_refused(fields, words):
    with pytest.raises(ConfigError, match=words):
        Config(**fields)


def test_a_training_step_has_finite_gradients_of_every_weight():
    vae = wan_cases.ours("one stage of time")[0]
    graph, params = nnx.split(vae)

    def loss(params, x):
        back, mean, logvar = nnx.merge(graph, params)(x, jax.random.key(0))
        return jnp.mean((back - x) ** 2) + 1e-3 * jnp.mean(mean**2 + logvar**2)

    slopes = nnx.to_pure_dict(jax.jit(jax.grad(loss))(params, wan_cases.clip(5)))
    assert not slopes.pop("mean").any() and not slopes.pop("std").any()
    assert all(np.isfinite(leaf).all() and np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slopes))
