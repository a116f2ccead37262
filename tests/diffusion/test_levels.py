"""Noise on known tokens and a time for each latent frame: the loss by hand, the levels of every token."""
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from sora_jax import build, validation
from sora_jax.diffusion import levels, masks
from sora_jax.diffusion.path import corrupt, target
from sora_jax.objectives import ddpm, flow
from sora_jax.types import ConfigError

LOSS = 1e-5
ENDS = tuple(float(pattern == "ends") for pattern in masks.PATTERNS)
FORCED = flow.Objective(levels="frame", known_noise=0.3, known=ENDS, caption_drop=0.0)
PER_FRAME = 4


class Spy:
    """The tiny model, which remembers what it was given."""

    tokenise, layout = staticmethod(tiny.fresh().tokenise), staticmethod(tiny.fresh().layout)

    def __call__(self, *inputs, layout):
        self.given = inputs
        return tiny.run(tiny.model(scale=0.1), *inputs)


@pytest.mark.parametrize("objective, weight", [
    (FORCED, lambda t: 1.0), (dataclasses.replace(FORCED, weight="min-snr"), lambda t: min((1 / t - 1) ** 2, 5) * t**2),
    (ddpm.Objective(levels="frame", known_noise=0.3, known=ENDS, caption_drop=0.0), lambda t: 1.0),
], ids=["flow", "min-snr", "ddpm"])
def test_the_loss_of_every_frame_is_that_of_its_own_time(key, objective, weight):
    """Clip by clip and frame by frame: noise at the frame's time, its target, and only the middle frame counts."""
    clips, spy = tiny.batch(), Spy()
    loss, _ = objective.loss(spy, clips, key)
    tokens, _, times, level, *_ = spy.given
    clean, _ = spy.tokenise(clips.x)
    eps = jax.random.normal(jax.random.split(key, 4)[1], clean.shape)
    prediction, total = tiny.run(tiny.model(scale=0.1), *spy.given), []
    assert times.shape == (3, 4) and len(np.unique(times[:, 1:])) == 9, "each latent frame has an own time"
    assert times[:, 0].min() > 0 and times[:, 0].max() < 0.3
    np.testing.assert_array_equal(level[0], np.repeat([0, 2, 0], PER_FRAME))
    for clip in range(3):
        for frame in range(3):
            part, t = slice(PER_FRAME * frame, PER_FRAME * (frame + 1)), times[clip, 2 if frame == 1 else 0]
            x0, noise = clean[clip, part], eps[clip, part]
            np.testing.assert_allclose(tokens[clip, part], corrupt(objective.path, x0, noise, t), atol=LOSS)
            if frame == 1:
                wrong = prediction[clip, part] - target(objective.path, objective.kind, x0, noise, t)
                total.append(weight(float(t)) * float(jnp.mean(wrong**2)))
    assert float(loss) == pytest.approx(np.mean(total), rel=LOSS)


def test_one_time_for_all_frames_is_two_levels(key):
    t, given = jnp.array([0.2, 0.7]), jax.random.bernoulli(key, 0.5, (2, 6))
    frame = jnp.tile(jnp.repeat(jnp.arange(3), 2), (2, 1))
    zero = jnp.zeros(2)
    plain, forced = levels.two(t, given, zero), levels.by_frame(jnp.tile(t[:, None], (1, 3)), frame, given, zero)
    times = [jnp.take_along_axis(each.times, each.level, 1) for each in (plain, forced)]
    np.testing.assert_array_equal(*times)
    np.testing.assert_array_equal(forced.own, jnp.tile(t[:, None], (1, 6)))


def test_noise_on_known_tokens_is_up_to_what_is_asked(key):
    t = levels.known_times(key, 1000, 0.2)
    assert t.min() >= 0 and 0.19 < t.max() < 0.2 and float(t.mean()) == pytest.approx(0.1, abs=0.01)
    assert (levels.known_times(key, 3, 0.0) == 0).all()


@pytest.mark.parametrize("wrong, words", [({"levels": "token"}, "objective.levels='token' is not one of two, frame"),
                                          ({"known_noise": 1.0}, "objective.known_noise=1.0 must be a time in")])
def test_what_makes_no_sense_is_refused(wrong, words):
    with pytest.raises(ConfigError) as error:
        flow.Objective(**wrong)
    assert words in str(error.value)


def test_levels_of_frames_are_paid_for_and_not_packed():
    """A level more for each latent frame but one, in every layer's modulation and once before; rows of clips of several
    sizes have neither."""
    from configs import dit

    config = dit.get_config("w32d2")
    plain = build.forward_flops(config)
    config.objective.levels = "frame"
    width, frames, forced = 32, build.latent_shape(config)[0], build.forward_flops(config)
    more = {name: forced[name] - plain[name] for name in plain if forced[name] != plain[name]}
    each = {"modulation": (6 * 2 + 2) * 2 * width**2, "embed": 2 * (256 + width) * width}
    assert more == {name: (frames - 1) * value for name, value in each.items()}
    validation.check_rows(config)
    config.train.pack_tokens = 1000
    with pytest.raises(ConfigError, match="packed clips have two levels"):
        validation.check_rows(config)


def test_configs_from_before_have_two_levels_and_clean_known_tokens():
    from configs import smoke

    config = smoke.get_config("dit")
    new = build.objective(config), build.sampling(config)
    with config.unlocked():
        del config.objective.levels, config.objective.known_noise, config.sampler.known_noise, config.sampler.lag
    assert (build.objective(config), build.sampling(config)) == new
    assert new[0].levels == "two" and new[0].known_noise == 0 == new[1]["known_noise"] == new[1]["lag"]
