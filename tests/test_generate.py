"""One call from captions to latents: a function of its key, guided as asked, known tokens kept."""
import dataclasses
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from sora_jax import registry
from sora_jax.diffusion.guidance import guide
from sora_jax.diffusion.path import split
from sora_jax.generate import denoiser, generate
from sora_jax.objectives import ddpm, flow
from sora_jax.samplers import euler
from sora_jax.types import InputError

CLIPS = tiny.batch()
TOLERANCE = 1e-5


FLOW = flow.Objective()


def draw(sampler=euler, objective=FLOW, seed=0, mask=CLIPS.mask, **options):
    options = {"shape": tiny.SHAPE, "steps": 3, "key": jax.random.key(seed)} | options
    return np.asarray(generate(tiny.model(scale=0.1), objective, sampler, text=CLIPS.text, mask=mask, **options))


def test_a_sample_is_a_function_of_its_key_and_caption():
    one = draw()
    assert one.shape == (3, *tiny.SHAPE) and np.isfinite(one).all()
    np.testing.assert_array_equal(one, draw())
    assert np.abs(one - draw(seed=1)).max() > 0.1
    silent = draw(mask=jnp.zeros_like(CLIPS.mask))
    assert np.abs(one - silent)[0].max() > 1e-4 and np.abs(one - silent)[1].max() < TOLERANCE


@pytest.mark.parametrize("name", registry.names("samplers"))
@pytest.mark.parametrize("objective", [FLOW, ddpm.Objective()], ids=["flow", "ddpm"])
def test_every_sampler_takes_every_path(name, objective):
    assert np.isfinite(draw(registry.load("samplers", name), objective, guidance=2.0)).all()


def test_a_fresh_flow_model_returns_its_noise():
    out = generate(tiny.fresh(), FLOW, euler, text=CLIPS.text, mask=CLIPS.mask, shape=tiny.SHAPE, steps=2,
                   key=jax.random.key(0))
    noise = jax.random.normal(jax.random.split(jax.random.key(0))[0], (3, *tiny.SHAPE))
    np.testing.assert_array_equal(out, noise)


def test_guidance_doubles_and_extrapolates(key):
    """One guided denoiser call against the two forward passes it stands for; scale 1 is the conditional alone."""
    model, objective = tiny.model(scale=0.1), FLOW
    tokens, places = model.tokenise(CLIPS.x)
    known, t = jnp.zeros(tokens.shape[:2], bool), jnp.float32(0.6)
    levels, level = jnp.tile(jnp.array([0.0, 0.6]), (3, 1)), jnp.ones(tokens.shape[:2], int)
    cond, uncond = (tiny.run(model, tokens, places, levels, level, CLIPS.text, mask)
                    for mask in (CLIPS.mask, jnp.zeros_like(CLIPS.mask)))
    for scale in (1.0, 3.0):
        want = split(objective.path, "flow", guide(cond, uncond, scale), tokens, t)
        got = denoiser(model, objective, CLIPS.text, CLIPS.mask, places, known, scale)(tokens, t)
        for one, other in zip(got, want, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
    batches = []
    spy = dataclasses.make_dataclass("Spy", ["encode_text"])(lambda text, mask: batches.append(len(text)))
    denoiser(spy, objective, CLIPS.text, CLIPS.mask, places, known, 3.0)
    denoiser(spy, objective, CLIPS.text, CLIPS.mask, places, known, None)
    assert batches == [6, 3]
    np.testing.assert_allclose(draw(guidance=1.0), draw(guidance=1.0 + 1e-6), atol=1e-4)
    assert np.abs(draw(guidance=5.0) - draw(guidance=1.0))[0].max() > 1e-4


@pytest.mark.parametrize("name", registry.names("samplers"))
def test_known_tokens_are_kept_and_guide_the_rest(name):
    sampler = registry.load("samplers", name)
    _, places = tiny.model().tokenise(CLIPS.x)
    first = places[:, :, 0] == 0
    one = draw(sampler, known=first, x_known=CLIPS.x, guidance=2.0)
    np.testing.assert_array_equal(one[:, 0], CLIPS.x[:, 0])
    other = draw(sampler, known=first, x_known=CLIPS.x + 1, guidance=2.0)
    assert np.abs(one - other)[:, 1:].max() > 1e-4
    np.testing.assert_array_equal(draw(sampler, known=jnp.ones_like(first), x_known=CLIPS.x), CLIPS.x)


def test_known_tokens_are_shown_as_clean():
    """Level 0 is time 0 and theirs, level 1 is the sampler's time, in both halves of a guided batch."""
    tokens, places = tiny.model().tokenise(CLIPS.x)
    known, seen = places[:, :, 0] == 0, []
    spy = mock.Mock(side_effect=lambda x, places, levels, level, *_, **__: seen.append((levels, level)) or x)
    denoiser(spy, FLOW, CLIPS.text, CLIPS.mask, places, known, 2.0)(tokens, jnp.float32(0.6))
    (levels, level), = seen
    np.testing.assert_array_equal(level, ~np.tile(known, (2, 1)))
    np.testing.assert_allclose(levels, np.tile([0.0, 0.6], (6, 1)), rtol=1e-6)


def test_half_a_request_is_refused():
    with pytest.raises(InputError, match="x_known"):
        draw(x_known=CLIPS.x)
