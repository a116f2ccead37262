"""The critic's terms: hinge by hand, whom each gradient reaches, the adaptive weight, and when a term begins."""
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import smoke
from sora_jax import build, registry
from sora_jax.objectives import vae
from sora_jax.objectives.vae import Objective
from sora_jax.types import Batch, ConfigError

CLOSE = 1e-4
STEPS = 40


def config_of(**fields):
    config = smoke.get_config("vae")
    config.critic.width, config.critic.depth = 4, 1
    for name, value in fields.items():
        config.objective[name] = value
    return config


@pytest.fixture(scope="module")
def made():
    """(learner with every weight of the decoder's head away from zero, batch, key)."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.uniform(-1, 1, (2, 3, 16, 16, 3)).astype(np.float32))
    clips = Batch(x, jnp.zeros((2, 1), jnp.uint8), jnp.zeros((2, 1), bool))
    return build.learner(config_of(critic_weight=0.5)), clips, jax.random.key(3)


def slopes(objective, made):
    """Gradient of the loss by the learner's weights."""
    model, clips, key = made
    return jax.jit(jax.grad(lambda model: objective.loss(model, clips, key)[0]))(model)


def test_hinge_by_hand():
    real, fake = vae.hinge(jnp.array([2.0, 0.5, -1.0]), jnp.array([-3.0, 0.0, 1.0]))
    assert float(real) == pytest.approx((0 + 0.5 + 2) / 3) and float(fake) == pytest.approx((0 + 1 + 2) / 3)


def test_gradients_reach_only_whom_they_should(made):
    """The critic's are those of its own loss alone; the autoencoder's those of its loss with the critic held still."""
    model, clips, key = made
    found = slopes(Objective(critic_weight=0.5), made)
    reconstruction = model(clips.x, key)[0]
    adaptive = Objective(critic_weight=0.5).loss(model, clips, key)[1]["adaptive"]

    def hers(critic):
        return sum(vae.hinge(critic(clips.x), critic(reconstruction)))

    def ours(model, critic):
        plain = Objective().loss(model, clips, key)[0]
        return plain - 0.5 * adaptive * jnp.mean(critic(model(clips.x, key)[0]))

    want = jax.jit(jax.grad(hers))(model.critic)
    for got, expected in zip(jax.tree.leaves(found.critic), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(got, expected, atol=CLOSE)
    held = jax.jit(jax.grad(ours))(model, model.critic)
    moved = 0.0
    plain = slopes(Objective(), made)
    for part in ("encoder", "decoder"):
        trees = (jax.tree.leaves(getattr(tree, part)) for tree in (found, held, plain))
        for got, expected, without in zip(*trees, strict=True):
            np.testing.assert_allclose(got, expected, atol=CLOSE)
            moved = max(moved, float(jnp.abs(got - without).max()))
    assert moved > 10 * CLOSE, "the adversarial term does nothing here"


@pytest.mark.parametrize("name, fields", [("video_vae", {}), ("wan_vae", {"patch": 1, "time": (2,), "space": (2,)})])
def test_the_adaptive_weight_is_the_ratio_of_gradients_at_the_last_layer(made, name, fields):
    """Of every autoencoder, against gradients by the whole model."""
    config = config_of(critic_weight=1.0, kind="l1")
    config.vae.name = name
    config.vae.update(fields)
    _, clips, key = made
    model, objective = build.learner(config), Objective(kind="l1", temporal_weight=0.3, critic_weight=1.0)

    def nearer(model):
        error = model(clips.x, key)[0] - clips.x
        return jnp.mean(jnp.abs(error)) + 0.3 * jnp.mean(jnp.abs(jnp.diff(error, axis=1)))

    def truer(model):
        return -jnp.mean(model.critic(model(clips.x, key)[0]))

    lengths = [np.linalg.norm(jax.jit(jax.grad(loss))(model).decoder.head.weight[...]) for loss in (nearer, truer)]
    found = float(jax.jit(objective.loss)(model, clips, key)[1]["adaptive"])
    assert found == pytest.approx(lengths[0] / (lengths[1] + vae.SMALLEST), rel=CLOSE) and found > 0


def test_the_adaptive_weight_has_a_largest(made):
    model, clips, key = made
    careless = jax.tree.map(lambda leaf: leaf, model)
    careless.critic = jax.tree.map(jnp.zeros_like, model.critic)
    assert float(Objective(critic_weight=1.0).loss(careless, clips, key)[1]["adaptive"]) == vae.LARGEST


def test_the_loss_is_as_large_as_without_a_critic_and_its_terms_are_reported(made):
    model, clips, key = made
    plain, _ = Objective().loss(model, clips, key)
    loss, scalars = Objective(critic_weight=2.0).loss(model, clips, key)
    assert float(loss) == pytest.approx(float(plain), rel=1e-6)
    assert {"critic_real", "critic_fake", "critic_accuracy", "adversarial", "adaptive"} <= set(scalars)
    said = [model.critic(clips.x), model.critic(model(clips.x, key)[0])]
    assert float(scalars["adversarial"]) == pytest.approx(-float(jnp.mean(said[1])), abs=CLOSE)
    right = (np.mean(np.asarray(said[0]) > 0) + np.mean(np.asarray(said[1]) < 0)) / 2
    assert float(scalars["critic_accuracy"]) == pytest.approx(right, abs=CLOSE)


def test_a_clip_of_one_frame_has_a_critic_too(made):
    model, clips, key = made
    still = clips._replace(x=clips.x[:, :1])
    loss, scalars = Objective(critic_weight=1.0, temporal_weight=1.0).loss(model, still, key)
    assert np.isfinite(loss) and float(scalars["adaptive"]) > 0


def test_a_term_weighs_nothing_before_its_start(made):
    model, clips, key = made
    rule = {"temporal_weight": 0.5, "temporal_from": 0.25, "perceptual_weight": 2.0, "perceptual_from": 0.5,
            "perceptual": lambda x, y: jnp.mean((x - y) ** 4)}
    staged, terms = Objective(**rule, steps=STEPS), Objective(**rule)
    _, found = terms.loss(model, clips, key)
    plain = float(Objective().loss(model, clips, key)[0])
    for step, weights in ((0, (0, 0)), (9, (0, 0)), (10, (0.5, 0)), (19, (0.5, 0)), (20, (0.5, 2.0)), (39, (0.5, 2.0))):
        loss, scalars = staged.at(jnp.int32(step)).loss(model, clips, key)
        want = plain + weights[0] * float(found["temporal"]) + weights[1] * float(found["perceptual"])
        assert float(loss) == pytest.approx(want, rel=CLOSE), step
        assert float(scalars["temporal"]) == pytest.approx(float(found["temporal"]))


def test_the_critic_learns_before_it_weighs(made):
    rule = Objective(critic_weight=1.0, critic_from=0.5, critic_lead=0.25, steps=STEPS)
    plain = slopes(Objective(), made)
    for step, learns, weighs in ((9, False, False), (10, True, False), (19, True, False), (20, True, True)):
        found = slopes(rule.at(jnp.int32(step)), made)
        moved = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(found.critic))
        differs = max(float(jnp.abs(a - b).max()) for a, b in zip(jax.tree.leaves(found.decoder),
                                                                 jax.tree.leaves(plain.decoder), strict=True))
        assert (moved > 0, differs > CLOSE) == (learns, weighs), step


@pytest.mark.parametrize("fields, words", [
    ({"critic_weight": -0.1}, "objective.critic_weight=-0.1 must not be negative"),
    ({"critic_from": 1.5}, r"objective.critic_from=1.5 is not a fraction of the run; give one in \[0, 1\]"),
    ({"perceptual_from": -0.5}, "objective.perceptual_from=-0.5 is not a fraction"),
    ({"critic_lead": 2.0}, "objective.critic_lead=2.0 is not a fraction")])
def test_what_cannot_be_staged_is_refused(fields, words):
    with pytest.raises(ConfigError, match=words):
        Objective(**fields)


def test_every_field_of_the_objective_has_its_place_in_the_config():
    fields = {field.name for field in dataclasses.fields(registry.load("objectives", "vae").Objective)}
    assert fields - set(smoke.get_config("vae").objective) == {"perceptual", "steps", "step"}
