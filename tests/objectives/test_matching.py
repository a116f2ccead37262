"""What every diffusion objective owes: known tokens clean and uncounted, captions dropped in training alone."""
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from sora_jax import registry
from sora_jax.diffusion import masks, matching, weighting
from sora_jax.diffusion.path import Cosine, Flow, Karras, LinearVP, corrupt, split, target
from sora_jax.types import ConfigError

OBJECTIVES = [registry.load("objectives", name).Objective() for name in ("flow", "ddpm", "edm")]
named, every = (pytest.mark.parametrize("objective", some, ids=lambda objective: type(objective.path).__name__)
                for some in (OBJECTIVES[:2], OBJECTIVES))
WEIGHED = 1e-3
ONLY = {pattern: tuple(float(pattern == other) for other in masks.PATTERNS) for pattern in masks.PATTERNS}


class Spy:
    """A model that answers with a constant and remembers what it was given."""

    def __init__(self, answer=0.0):
        self.answer, self.given = answer, None

    tokenise, layout = staticmethod(tiny.fresh().tokenise), staticmethod(tiny.fresh().layout)

    def __call__(self, *inputs, layout):
        self.given = inputs
        return self.answer + jnp.zeros_like(inputs[0])


@functools.partial(jax.jit, static_argnames="objective")
def observe(objective, clips, key):
    """The loss and scalars that a model of zeros gets, and everything it was given."""
    spy = Spy()
    return *objective.loss(spy, clips, key), spy.given


@named
def test_loss_of_a_constant_is_the_mean_square_of_the_target(key, objective):
    """A model of zeros pays E|target|^2: 2 for flow on unit data, 1 for noise and for edm, whatever is known."""
    clips = tiny.batch(captions=("",) * 512)
    for pattern in ("none", "first", "box"):
        loss, scalars, _ = observe(dataclasses.replace(objective, known=ONLY[pattern]), clips, key)
        assert loss == pytest.approx({"flow": 2.0}.get(objective.kind, 1.0), rel=0.03)
        assert (scalars["known_fraction"] > 0.1) == (pattern != "none")


@named
def test_known_tokens_enter_clean_and_do_not_count(key, objective):
    clips = tiny.batch()
    only_first = dataclasses.replace(objective, known=ONLY["first"])
    loss, _, (tokens, _, levels, level, *_) = observe(only_first, clips, key)
    clean, _ = Spy.tokenise(clips.x)
    per_frame = 4
    np.testing.assert_array_equal(tokens[:, :per_frame], clean[:, :per_frame])
    assert jnp.abs(tokens - clean)[:, per_frame:].max() > 0.1
    assert (level[:, :per_frame] == 0).all() and (level[:, per_frame:] == 1).all()
    assert (levels[:, 0] == 0).all() and (levels[:, 1] > 0).all()

    def wrong_where_known(tokens, places, *_, layout):
        return jnp.where(places[:, :, :1] == 0, 1e3, 0.0) + jnp.zeros_like(tokens)

    wrong_where_known.tokenise, wrong_where_known.layout = Spy.tokenise, Spy.layout
    assert jax.jit(lambda key: only_first.loss(wrong_where_known, clips, key)[0])(key) == pytest.approx(float(loss))


@every
def test_unknown_tokens_enter_noised_at_their_level(key, objective):
    clips = tiny.batch(captions=("",) * 64)
    _, _, (tokens, _, levels, *_) = observe(dataclasses.replace(objective, known=ONLY["none"]), clips, key)
    clean, _ = Spy.tokenise(clips.x)
    t = levels[:, 1]
    noise = (tokens - objective.path.alpha(t)[:, None, None] * clean) / objective.path.sigma(t)[:, None, None]
    assert noise.mean() == pytest.approx(0, abs=0.05) and noise.std() == pytest.approx(1, abs=0.02)


@named
def test_captions_are_dropped_as_often_as_asked(key, objective):
    clips = tiny.batch(captions=("red",) * 1000)
    for rate in (0.0, 0.3, 1.0):
        kept = np.asarray(observe(dataclasses.replace(objective, caption_drop=rate), clips, key)[2][5])
        assert 1 - kept.any(axis=1).mean() == pytest.approx(rate, abs=0.04)
        np.testing.assert_array_equal(kept[kept.any(axis=1)], np.asarray(clips.mask)[kept.any(axis=1)])


@every
def test_errors_are_the_instrument(key, objective):
    """Equal to the formula; blind to dropout and masks; sensitive to the caption and the weights."""
    clips, model = tiny.batch(), tiny.model()
    eps, t = jax.random.normal(key, clips.x.shape), jnp.array([0.2, 0.5, 0.9])
    read = jax.jit(lambda objective, clips: objective.errors(model, clips, t, eps), static_argnums=0)
    got = read(objective, clips)
    tokens, places = model.tokenise(clips.x)
    noise, _ = model.tokenise(eps)
    levels, level = jnp.stack([0 * t, t], 1), jnp.ones(tokens.shape[:2], int)
    out = tiny.run(model, corrupt(objective.path, tokens, noise, t), places, levels, level, clips.text, clips.mask)
    want = jnp.mean(jnp.square(out - target(objective.path, objective.kind, tokens, noise, t)), axis=(1, 2))
    np.testing.assert_allclose(got, want, rtol=1e-5)
    careless = dataclasses.replace(objective, caption_drop=1.0, known=ONLY["first"])
    np.testing.assert_array_equal(read(careless, clips), got)
    other = read(objective, clips._replace(mask=jnp.zeros_like(clips.mask)))
    assert got[0] != other[0] and got[1] == other[1], "clip 1 has no caption to lose"


@named
def test_loss_is_a_function_of_its_key(key, objective):
    loss = jax.jit(lambda key: objective.loss(tiny.model(), tiny.batch(), key)[0])
    assert loss(key) == loss(key) != loss(jax.random.key(1))


@every
def test_weights_count_in_training_and_not_in_the_instrument(key, objective):
    """The weighed loss is the mean of weight times error; `errors` knows nothing of it."""
    clips, spy = tiny.batch(), Spy(0.5)
    heavy = dataclasses.replace(objective, weight="min-snr", gamma=1e-3, known=ONLY["none"])
    loss, _ = matching.loss(heavy, spy, clips, key)
    tokens, t = spy.given[0], spy.given[2][:, 1]
    clean, _ = Spy.tokenise(clips.x)
    alpha, sigma = (part[:, None, None] for part in (objective.path.alpha(t), objective.path.sigma(t)))
    wrong = target(objective.path, objective.kind, clean, (tokens - alpha * clean) / sigma, t) - 0.5
    weight = weighting.weight(objective.path, objective.kind, t, "min-snr", 1e-3)
    assert loss == pytest.approx(float(jnp.mean(weight * jnp.mean(wrong**2, axis=(1, 2)))), rel=WEIGHED)
    assert loss != pytest.approx(float(jnp.mean(wrong**2)), rel=0.05)
    eps, t = jax.random.normal(key, clips.x.shape), jnp.array([0.2, 0.5, 0.9])
    np.testing.assert_array_equal(heavy.errors(spy, clips, t, eps), objective.errors(spy, clips, t, eps))


@every
def test_errors_as_another_kind(key, objective):
    """What the turned predictions have, computed from the turned predictions."""
    clips, spy, path = tiny.batch(), Spy(0.5), objective.path
    eps, t = jax.random.normal(key, clips.x.shape), jnp.array([0.2, 0.5, 0.9])
    tokens, noise = (Spy.tokenise(part)[0] for part in (clips.x, eps))
    xt = corrupt(path, tokens, noise, t)
    for other in ("x0", "v", objective.kind):
        turned = target(path, other, *split(path, objective.kind, jnp.full_like(xt, 0.5), xt, t), t)
        got = matching.errors(objective, spy, clips, t, eps, as_kind=other)
        want = jnp.mean((turned - target(path, other, tokens, noise, t)) ** 2, axis=(1, 2))
        np.testing.assert_allclose(got, want, rtol=WEIGHED)


def test_paths_and_kinds_of_the_objectives():
    flow, ddpm, edm = OBJECTIVES
    assert flow.path == Flow() and flow.kind == "flow"
    assert ddpm.path == LinearVP(1000, 1e-4, 0.02) and ddpm.kind == "eps"
    assert edm.path == Karras(0.004, 160.0, 7.0) and edm.kind == "edm"
    for objective in OBJECTIVES:
        assert dataclasses.replace(objective, kind="") == objective, "an empty kind is the objective's own"
    cosine, zero = (dataclasses.replace(ddpm, kind="v", **fields) for fields in
                    ({"schedule": "cosine"}, {"zero_terminal": True}))
    assert cosine.path == Cosine(1000) and zero.path == LinearVP(zero_terminal=True)
    assert all(matching.loss(made, Spy(), tiny.batch(), jax.random.key(0))[0] > 0 for made in (cosine, zero))


@every
@pytest.mark.parametrize("fields,name", [
    ({"kind": "noise"}, "kind"), ({"known": (1.0,)}, "known"), ({"known": (0.9,) * 6}, "sum to 1"),
    ({"caption_drop": 1.5}, "caption_drop"), ({"weight": "snr"}, "objective.weight='snr' is not one of none, min-snr"),
    ({"gamma": 0.0}, "objective.gamma=0.0 must be positive"), ({"shift_tokens": -1}, "objective.shift_tokens=-1")])
def test_bad_fields_are_one_clear_line(objective, fields, name):
    with pytest.raises(ConfigError, match=name) as error:
        dataclasses.replace(objective, **fields)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("which,fields,name", [
    (0, {"time": "cosine"}, "time='cosine' is not one of logit_normal, mode, uniform"),
    (0, {"time": "mode", "scale": 1.8}, r"scale=1.8 .* in \[-1, 1.752\]"),
    (0, {"kind": "eps"}, "kind='eps' with a path that ends in noise alone"),
    (1, {"zero_terminal": True}, "kind='eps' with a path that ends in noise alone"),
    (1, {"beta_max": 0.0}, "betas"), (1, {"schedule": "sigmoid"}, "schedule='sigmoid' is not one of linear, cosine"),
    (1, {"schedule": "cosine", "zero_terminal": True, "kind": "v"}, "zero_terminal is for schedule='linear'"),
    (1, {"zero_terminal": True, "kind": "v", "steps": 1}, "steps=1: .* at least 2"),
    (2, {"sigma_min": 0.0}, "sigma_min=0.0"), (2, {"rho": -1.0}, "rho=-1.0"), (2, {"p_std": 0.0}, "p_std=0.0"),
    (2, {"p_mean": 6.0}, "p_mean=6.0 is not the log of a level")])
def test_bad_fields_of_one_objective(which, fields, name):
    with pytest.raises(ConfigError, match=f"objective.*{name}"):
        dataclasses.replace(OBJECTIVES[which], **fields)


def test_dropping_is_per_caption(key):
    mask = jnp.ones((200, 7), bool)
    kept = matching.drop_captions(key, mask, 0.5)
    assert set(np.asarray(kept.sum(1)).tolist()) == {0, 7}
