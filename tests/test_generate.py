"""One call from captions to latents: a function of its key, guided as asked, known tokens kept."""
import dataclasses
from functools import partial
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from sora_jax import generate as module
from sora_jax import registry
from sora_jax.diffusion import grids
from sora_jax.diffusion.guidance import Guidance, guide
from sora_jax.diffusion.path import split
from sora_jax.generate import PLAIN, denoiser, generate
from sora_jax.objectives import ddpm, flow
from sora_jax.samplers import ddim, euler
from sora_jax.types import ConfigError, InputError

CLIPS = tiny.batch()
TOLERANCE = 1e-5
CLOSE = 1e-4  # between one compiled program and another


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
        alone = denoiser(model, objective, CLIPS.text, CLIPS.mask, places, None, scale)(tokens, t)
        for one, other in zip(alone, want, strict=True):
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
    denoiser(spy, FLOW, CLIPS.text, CLIPS.mask, places, None, 2.0)(tokens, jnp.float32(0.6))
    (levels, level), (one, zeros) = seen
    np.testing.assert_array_equal(level, ~np.tile(known, (2, 1)))
    np.testing.assert_allclose(levels, np.tile([0.0, 0.6], (6, 1)), rtol=1e-6)
    np.testing.assert_allclose(one, np.full((6, 1), 0.6), rtol=1e-6)
    assert zeros.shape == level.shape and not zeros.any(), "nothing is known: all tokens at the one level"


def test_half_a_request_is_refused():
    with pytest.raises(InputError, match="x_known"):
        draw(x_known=CLIPS.x)


def plain_run(sampler, objective, guidance, steps, key):
    """Classifier-free guidance and nothing else, written out: what every default must equal, bit for bit."""
    model = tiny.model(scale=0.1)
    key_noise, key_sampler = jax.random.split(key)

    @partial(jax.jit, compiler_options=tiny.AS_USERS)
    def walk(model, text, mask, key, scale):
        noise, places = model.tokenise(jax.random.normal(key, (len(text), *tiny.SHAPE)))
        states = model.encode_text(jnp.tile(text, (2, 1)), jnp.concatenate([mask, jnp.zeros_like(mask)]))
        places, level = jnp.concatenate([places] * 2), jnp.ones((2 * len(text), noise.shape[1]), jnp.int32)

        def denoise(x, t):
            levels = jnp.broadcast_to(jnp.stack([jnp.zeros_like(t), t]), (2 * len(text), 2))
            both = model(jnp.concatenate([x] * 2), places, levels, level, None, None, text_states=states)
            return split(objective.path, objective.kind, guide(*jnp.split(both, 2), scale), x, t)

        tokens = sampler.sample(denoise, noise, grids.shifted(steps), objective.path, key_sampler)
        return model.untokenise(tokens, tiny.SHAPE[:3])

    return np.asarray(walk(model, CLIPS.text, CLIPS.mask, key_noise, jnp.float32(guidance)))


def test_the_default_is_plain_guidance_bit_for_bit(monkeypatch):
    plain = module.run
    monkeypatch.setattr(module, "run", lambda *inputs, **static: plain.lower(*inputs, **static).compile(
        compiler_options=tiny.AS_USERS)(*inputs))
    key = jax.random.key(0)
    want = plain_run(euler, FLOW, 2.5, 3, key)
    np.testing.assert_array_equal(draw(guidance=2.5), want)
    neutral = Guidance(guidance_known=1.0, rescale=0.0, interval=(0.0, 1.0), zero_star=False, zero_steps=0)
    np.testing.assert_array_equal(draw(guidance=2.5, rule=neutral, grid="shifted", eta=0.0), want)


def seen(rule, t=0.6, known=None, noise=None, scale=2.5, **options):
    """The flow predictions that `denoiser` makes at t under a rule, of the tokens of CLIPS."""
    model = tiny.model(scale=0.1)
    tokens, places = model.tokenise(CLIPS.x)
    known = jnp.zeros(tokens.shape[:2], bool) if known is None else known
    denoise = denoiser(model, FLOW, CLIPS.text, CLIPS.mask, places, known, scale, rule=rule, noise=noise, **options)
    x0, eps = jax.jit(denoise)(tokens, jnp.float32(t))
    return eps - x0


def forward(mask, t=0.6, known=None, model=None, tokens=None):
    """One prediction of the model with this mask of the caption and these tokens known."""
    model = model or tiny.model(scale=0.1)
    clean, places = model.tokenise(CLIPS.x)
    level = jnp.ones(clean.shape[:2], int) if known is None else (~known).astype(int)
    levels = jnp.tile(jnp.array([0.0, t]), (3, 1))
    return tiny.run(model, clean if tokens is None else tokens, places, levels, level, CLIPS.text, mask)


def test_guidance_is_only_inside_the_interval():
    for t, want in ((0.2, seen(PLAIN, 0.2, scale=None)), (0.6, seen(PLAIN, 0.6)), (0.9, seen(PLAIN, 0.9, scale=None))):
        np.testing.assert_allclose(seen(Guidance(interval=(0.3, 0.8)), t), want, atol=CLOSE)
    assert np.abs(draw(guidance=2.5, rule=Guidance(interval=(0.3, 0.8))) - draw(guidance=2.5)).max() > 1e-4


def test_a_prediction_without_the_known_tokens_sees_noise_in_their_place(key):
    tokens, places = tiny.model().tokenise(CLIPS.x)
    known, noise, nothing = places[:, :, 0] == 0, jax.random.normal(key, tokens.shape), jnp.zeros_like(CLIPS.mask)
    hidden = jnp.where(known[:, :, None], 0.4 * tokens + 0.6 * noise, tokens)
    full, uncaptioned = forward(CLIPS.mask, known=known), forward(nothing, known=known)
    neither = forward(nothing, tokens=hidden)
    want = neither + 1.7 * (uncaptioned - neither) + 2.5 * (full - uncaptioned)
    np.testing.assert_allclose(seen(Guidance(guidance_known=1.7), known=known, noise=noise), want, atol=CLOSE)
    given = {"known": known, "x_known": CLIPS.x}
    one, other = (draw(guidance=2.5, rule=Guidance(guidance_known=scale), **given) for scale in (1.0, 1.7))
    np.testing.assert_array_equal(other[:, 0], CLIPS.x[:, 0])
    assert np.abs(one - other)[:, 1:].max() > 1e-4
    np.testing.assert_array_equal(draw(guidance=2.5, rule=Guidance(guidance_known=1.7)), draw(guidance=2.5))


def test_the_optimised_scale_is_of_velocities_and_first_steps_may_stand_still():
    """From one clip to the next s* differs; a DDPM's noise is turned into velocity before it is taken."""
    got = seen(Guidance(zero_star=True))
    conditional, unconditional = forward(CLIPS.mask), forward(jnp.zeros_like(CLIPS.mask))
    star = (conditional * unconditional).sum((1, 2)) / (unconditional**2).sum((1, 2))
    want = 2.5 * conditional - 1.5 * star[:, None, None] * unconditional
    np.testing.assert_allclose(got, want, atol=CLOSE)
    assert np.isfinite(draw(objective=ddpm.Objective(), guidance=2.5, rule=Guidance(zero_star=True))).all()
    still = draw(guidance=2.5, rule=Guidance(zero_steps=2))
    noise = jax.random.normal(jax.random.split(jax.random.key(0))[0], (3, *tiny.SHAPE))
    tokens, places = tiny.model().tokenise(noise)
    known = jnp.zeros(tokens.shape[:2], bool)
    x0, eps = jax.jit(denoiser(tiny.model(scale=0.1), FLOW, CLIPS.text, CLIPS.mask, places, known, 2.5))(
        tokens, jnp.float32(1 / 3))
    np.testing.assert_allclose(still, tiny.model().untokenise(tokens - (eps - x0) / 3, tiny.SHAPE[:3]), atol=CLOSE)


def test_a_weaker_model_guides_in_place_of_silence():
    weaker = tiny.model(scale=0.05)
    want = forward(CLIPS.mask, model=weaker)
    want = want + 2.5 * (forward(CLIPS.mask) - want)
    np.testing.assert_allclose(seen(PLAIN, guide_model=weaker), want, atol=CLOSE)
    alone = draw(guidance=1.0)
    np.testing.assert_array_equal(draw(guidance=1.0, guide_model=weaker), alone)
    np.testing.assert_allclose(draw(guidance=2.5, guide_model=tiny.model(scale=0.1)), alone, atol=CLOSE)
    assert np.abs(draw(guidance=2.5, guide_model=weaker) - draw(guidance=2.5)).max() > 1e-4


def test_rescaled_guidance_has_the_spread_of_the_conditional():
    np.testing.assert_allclose(seen(Guidance(rescale=1.0)).std((1, 2)), forward(CLIPS.mask).std((1, 2)), rtol=1e-4)


def test_positions_of_a_larger_clip_are_squeezed_into_the_smaller():
    """Rows twice as many stand half as far apart; clips that are no larger are what they were."""
    larger, seen = (3, 8, 4, 3), []
    model = tiny.model(scale=0.1)
    was = type(model).__call__

    def spy(self, tokens, places, *rest, **options):
        seen.append(places)
        return was(self, tokens, places, *rest, **options)

    with mock.patch.object(type(model), "__call__", spy), jax.disable_jit():
        draw(shape=larger, steps=1, within=tiny.SHAPE[:3])
    assert [float(axis.max()) for axis in seen[0].reshape(-1, 3).T] == [2.0, 1.5, 1.0]
    assert np.abs(draw(shape=larger) - draw(shape=larger, within=tiny.SHAPE[:3])).max() > 1e-4
    np.testing.assert_allclose(draw(), draw(within=(6, 4, 4)), atol=TOLERANCE)


def test_states_from_elsewhere_draw_what_their_captions_draw():
    """Guided, so that the states of no caption are read too; the bytes are not."""
    model = tiny.model(scale=0.1)
    states, empty = model.encode_text(CLIPS.text, CLIPS.mask), model.encode_text(CLIPS.text, 0 * CLIPS.mask > 0)
    other = jnp.zeros((3, 0), jnp.uint8)
    got = generate(model, FLOW, euler, text=other, mask=other > 0, shape=tiny.SHAPE, steps=3, key=jax.random.key(0),
                   guidance=2.5, text_states=(states, empty))
    np.testing.assert_allclose(got, draw(guidance=2.5), atol=CLOSE)
    swapped = generate(model, FLOW, euler, text=other, mask=other > 0, shape=tiny.SHAPE, steps=3,
                       key=jax.random.key(0), guidance=2.5, text_states=(empty, states))
    assert jnp.abs(swapped - got).max() > 1e-3


@pytest.mark.parametrize("options, words", [
    ({"grid": "karas"}, "'karas' is not one of"), ({"eta": 0.5}, "euler has no such choice"),
    ({"eta": 2.0}, "sampler.eta"),
    ({"lag": 1, "sampler": ddim, "rule": Guidance(zero_star=True)}, "sampler.lag=1.*zero_star=False"),
    ({"rule": Guidance(zero_steps=3)}, "sampler.zero_steps=3 leaves nothing"), ({"steps": 0}, "sampler.steps=0"),
    ({"rule": Guidance(guidance_known=2.0), "guide_model": True, "known": True}, "with a guiding model"),
])
def test_what_does_not_fit_together_is_refused(options, words):
    if "guide_model" in options:
        options = options | {"guide_model": tiny.model(), "x_known": CLIPS.x,
                             "known": tiny.model().tokenise(CLIPS.x)[1][:, :, 0] == 0}
    with pytest.raises(ConfigError, match=words):
        draw(**options)
