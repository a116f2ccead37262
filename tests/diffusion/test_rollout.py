"""Frames one behind the other: the pyramid, the plain sampler at lag 0, and causes before effects."""
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from sora_jax.diffusion import grids, rollout
from sora_jax.diffusion.path import Flow, LinearVP
from sora_jax.generate import denoiser, generate
from sora_jax.objectives import flow
from sora_jax.samplers import ddim, euler
from sora_jax.types import ConfigError

CLIPS = tiny.batch()
CLOSE = 1e-4  # between one compiled program and another
FRAME = jnp.repeat(jnp.arange(3), 4)


def test_a_pyramid_lags_frame_by_frame():
    times = jnp.array([1.0, 0.5, 0.0])
    np.testing.assert_array_equal(rollout.pyramid(times, 3, 1), [[1, 1, 1], [0.5, 1, 1], [0, 0.5, 1], [0, 0, 0.5],
                                                                 [0, 0, 0]])
    np.testing.assert_array_equal(rollout.pyramid(times, 3, 0), [[1, 1, 1], [0.5, 0.5, 0.5], [0, 0, 0]])
    alone = rollout.pyramid(times, 2, 2)
    assert ((alone[:, 1] == 1) | (alone[:, 0] == 0)).all(), "a lag of all steps is one frame after the other"


def test_all_frames_at_one_level_are_the_ordinary_sampler(key):
    """The same walk, guided, with a level for each frame in the place of one for all."""
    model, objective = tiny.model(scale=0.1), flow.Objective()
    path = objective.path
    noise, places = model.tokenise(jax.random.normal(key, CLIPS.x.shape))
    known, times = places[:, :, 0] == 0, grids.shifted(3)

    def draw(frame, sample, schedule):
        denoise = denoiser(model, objective, CLIPS.text, CLIPS.mask, places, known, 2.0, frame=frame)
        return jax.jit(lambda x: sample(denoise, x, schedule))(noise)

    plain = draw(None, lambda denoise, x, times: ddim.sample(denoise, x, times, path, key), times)
    together = draw(FRAME, lambda denoise, x, times: rollout.sample(denoise, x, times, path, FRAME),
                    rollout.pyramid(times, 3, 0))
    np.testing.assert_allclose(together, plain, atol=CLOSE)
    assert np.abs(plain - noise).max() > 0.1


@pytest.mark.parametrize("path", [Flow(), LinearVP()], ids=["flow", "linear"])
def test_a_frame_waits_and_then_walks_as_alone(key, path):
    """With a denoiser that looks at each frame alone, lag changes nothing but when."""
    x = jax.random.normal(key, (2, 12, 5))
    times = grids.shifted(4)

    def denoise(x, t):
        return 0.3 * x, 0.8 * x

    want = ddim.sample(denoise, x, times, path, key)
    got = rollout.sample(denoise, x, rollout.pyramid(times, 3, 2), path, FRAME)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def draw(sampler=ddim, **options):
    options = {"shape": tiny.SHAPE, "steps": 3, "key": jax.random.key(0), "guidance": 2.0} | options
    return np.asarray(generate(tiny.model(scale=0.1), flow.Objective(), sampler, text=CLIPS.text, mask=CLIPS.mask,
                               **options))


def test_known_tokens_are_kept_to_the_bit_and_noise_on_them_is_felt():
    known = tiny.model().tokenise(CLIPS.x)[1][:, :, 0] == 0
    given = {"known": known, "x_known": CLIPS.x}
    plain, lagging, noised = (draw(**given, **how) for how in ({}, {"lag": 1}, {"lag": 1, "known_noise": 0.2}))
    for one, other in ((plain, lagging), (lagging, noised)):
        np.testing.assert_array_equal(other[:, 0], CLIPS.x[:, 0])
        assert np.abs(one - other)[:, 1:].max() > 1e-4


@pytest.mark.parametrize("frame, t, own", [(None, jnp.float32(0.6), [0.6]), (FRAME, jnp.array([0.1, 0.4, 0.9]),
                                                                           [0.1, 0.4, 0.9])])
def test_every_token_is_told_its_level(frame, t, own):
    """Known tokens the time of their noise, the others that of the clip or of their frame, in both halves."""
    tokens, places = tiny.model().tokenise(CLIPS.x)
    known, seen = places[:, :, 1] == 0, []
    spy = mock.Mock(side_effect=lambda x, places, levels, level, *_, **__: seen.append((levels, level)) or x)
    denoise = denoiser(spy, flow.Objective(), CLIPS.text, CLIPS.mask, places, known, 2.0, known_noise=0.2, frame=frame)
    x0, _ = denoise(tokens, t)
    (levels, level), = seen
    told = np.take_along_axis(np.asarray(levels), np.asarray(level), 1)
    each = jnp.broadcast_to(jnp.array(own)[FRAME if frame is not None else 0 * FRAME], known.shape)
    want = jnp.where(known, 0.2, each)
    np.testing.assert_allclose(told, np.tile(want, (2, 1)), rtol=1e-6)
    np.testing.assert_allclose(x0, tokens - each[:, :, None] * tokens, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options, words", [
    ({"lag": -1}, "sampler.lag=-1"), ({"lag": 1, "sampler": euler}, "it is for sampler.name='ddim'"),
    ({"lag": 1, "eta": 0.5}, "sampler.lag=1"), ({"known_noise": 1.0}, "sampler.known_noise=1.0 must be a time"),
])
def test_what_does_not_fit_together_is_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        draw(**options)
