"""A run with a critic: one state and one update, resumed to the bit, and what it leaves is a plain autoencoder."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from configs import smoke
from sora_jax import build, checkpoint, costs, encoding, loader, pipeline, report, sources, validation, video
from sora_jax.objectives.vae import Objective
from sora_jax.scaling import identity
from sora_jax.train import loop, optimizer, state, step
from sora_jax.train.program import program
from sora_jax.types import Batch, ConfigError
from sora_jax.weights import named_leaves, weights_hash

STEPS, LEAD, START = 12, 3, 6
UPDATES, TOLD_APART = 60, 0.9
CLOSE = 1e-6


def config_of(**fields):
    """Twelve updates: the critic learns from the fourth, and weighs from the seventh."""
    config = smoke.get_config("vae")
    config.train.clips, config.train.branches, config.train.save = STEPS * config.train.batch, (), 1 / STEPS
    config.optimizer.cooldown, config.train.log = 0.5, 1 / STEPS
    config.critic.width, config.critic.depth = 8, 1
    config.objective.update({"critic_weight": 0.5, "critic_from": START / STEPS, "critic_lead": (START - LEAD) / STEPS})
    config.objective.update(fields)
    return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(config, folder) of a run with a critic."""
    config, folder = config_of(), tmp_path_factory.mktemp("critic")
    loop.run(config, folder)
    return config, folder


def restored(config, folder, name="checkpoints"):
    """The whole state of the last update under a name."""
    mesh = build.mesh(config)
    abstract = state.abstract(lambda: build.learner(config, config.seed), program(config, mesh).tx, mesh)
    with checkpoint.Checkpoints(folder / name) as saves:
        return saves.restore(abstract, aside=False).state


def test_every_term_is_logged_and_drawn(finished):
    _, folder = finished
    rows = [row for row in report.Writer(folder).rows() if "checkpoints/loss" in row or f"branch-{STEPS}/loss" in row]
    names = {"l1", "l2", "kl", "critic_real", "critic_fake", "critic_accuracy", "adversarial", "adaptive", "grad_norm",
             "critic_grad_norm"}
    assert len(rows) == STEPS
    for k, row in enumerate(rows):
        values = {name.split("/")[-1]: value for name, value in row.items()}
        assert names <= set(values) and values["loss"] > 0
        assert (values["critic_grad_norm"] > 0) == (k >= LEAD), "the critic learns from its lead on"
    assert (folder / "curve.png").stat().st_size > 1000


def test_a_run_that_was_killed_ends_in_the_same_bits(finished, tmp_path):
    """Stopped by its fence in both halves, and resumed from what was saved."""
    config, folder = finished
    for until in (2, 3, 3):
        asked = []

        def fence(asked=asked, until=until):
            asked.append(1)
            if len(asked) > until:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            loop.run(config, tmp_path, fence)
    loop.run(config, tmp_path)
    for name in ("checkpoints", f"branch-{STEPS}"):
        one, two = (restored(config, place, name) for place in (folder, tmp_path))
        assert weights_hash(one) == weights_hash(two)
    one, two = (checkpoint.load_for_inspection(place).meta["hash"] for place in (folder, tmp_path))
    assert one == two


def test_before_the_critic_weighs_the_autoencoder_is_that_of_a_run_without(finished, tmp_path):
    config, _ = finished
    batches, states = [], []
    for fields in ({}, {"critic_weight": 0.0}):
        config = config_of(**fields)
        mesh = build.mesh(config)
        parts = program(config, mesh)
        current = state.initial(lambda config=config: build.learner(config, config.seed), parts.tx, mesh)
        source, collate = sources.training_source(config)
        stream = loader.Loader(source, batch=8, seed=0, mesh=mesh, collate=collate, workers=0).iterate(0)
        for _ in range(START + 1):
            before = state.kept(jax.device_get(current.params))
            current, _ = parts.update(current, next(stream), jnp.float32(1e-3))
        batches.append(before)
        states.append(current)
    for a, b in zip(*(jax.tree.leaves(tree) for tree in batches), strict=True):
        np.testing.assert_allclose(a, b, atol=CLOSE)
    moved = [np.abs(a - b).max() for a, b in zip(*(jax.tree.leaves(each.ema) for each in states), strict=True)]
    assert max(moved) > CLOSE, "the critic never weighed"
    assert set(states[0].params) - set(states[1].params) == {"critic"} and set(states[0].ema) == set(states[1].params)
    assert [name for name in named_leaves(states[1]) if "critic" in name] == []


def test_what_is_left_is_a_plain_autoencoder(finished, tmp_path):
    config, folder = finished
    final = restored(config, folder, f"branch-{STEPS}")
    assert "critic" in final.params and "critic" not in final.ema
    for which in ("ema", "params"):
        opened = checkpoint.load_for_inspection(folder, step=START, weights=which)
        assert set(opened.params) == {"encoder", "decoder", "mean", "std"}
    model, meta = pipeline.autoencoder(folder)
    assert not hasattr(model, "critic") and meta["hash"] == weights_hash(checkpoint.load_for_inspection(folder).params)
    encoding.encode(config, model, meta, "train", 8, encoding.Options(tmp_path / "latents", batch=8, shard=8))
    clips = sources.whole_clips(config)[:2]
    assert pipeline.decode(model, pipeline.encode(model, clips)).shape == clips.shape


def test_a_finished_autoencoder_goes_on_with_a_fresh_critic(finished, tmp_path):
    """Staging in two runs: the second begins from the first's weights, with another objective."""
    _, folder = finished
    config = config_of(critic_from=0.0, temporal_weight=0.1)
    config.train.start = str(folder)
    job = loop.Job(config, tmp_path / "next")
    begun, start = job.first(), checkpoint.load_for_inspection(folder).params
    for place in (state.kept(begun.params), begun.ema):
        for name, leaf in named_leaves(place).items():
            np.testing.assert_array_equal(leaf, named_leaves(start)[name])
    fresh = state.draw(lambda: build.learner(config, config.seed), job.tx).params["critic"]
    for a, b in zip(jax.tree.leaves(begun.params["critic"]), jax.tree.leaves(fresh), strict=True):
        np.testing.assert_allclose(a, b, atol=CLOSE)
    assert loop.run(config, tmp_path / "next")[-1]["started_from"] == meta_id(folder)


def meta_id(folder):
    return checkpoint.load_for_inspection(folder).meta["id"]


def test_each_side_is_clipped_alone_and_a_critic_that_has_not_begun_waits():
    params = {"decoder": {"w": jnp.zeros(4)}, "critic": {"w": jnp.ones(3)}}
    tx = optimizer.beside(optimizer.adamw(clip=1.0), optax.chain(optimizer.adamw(), optax.scale(0.5)))
    opt = tx.init(params)
    quiet = {"decoder": {"w": jnp.full(4, 1e-3)}, "critic": {"w": jnp.zeros(3)}}
    updates, waited = tx.update(quiet, opt, params)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), waited["critic"], opt["critic"]))
    np.testing.assert_array_equal(updates["critic"]["w"], 0)
    loud = {**quiet, "critic": {"w": jnp.full(3, 1e3)}}
    updates, opt = tx.update(loud, waited, params)
    alone = optimizer.adamw(clip=1.0)
    first = alone.init(state.kept(params))
    for _ in range(2):
        want, first = alone.update(state.kept(quiet), first, state.kept(params))
    np.testing.assert_array_equal(updates["decoder"]["w"], want["decoder"]["w"])
    np.testing.assert_allclose(updates["critic"]["w"], 0.5, rtol=1e-3)


def test_the_plan_counts_the_critic():
    config, plain = config_of(), config_of(critic_weight=0.0)
    count = sum(leaf.size for leaf in jax.tree.leaves(build.learner(config).critic))
    one, two = costs.budget(config), costs.budget(plain)
    forward = build.forward_flops(config)
    assert one.flops - two.flops == 3 * forward["critic"] * config.train.clips and two.flops < one.flops
    assert one.n_total == two.n_total and one.beside == build.critic_params(config) == count
    gained = {name: one.bytes_per_device[name] - two.bytes_per_device[name] for name in two.bytes_per_device}
    assert gained == {"weights": 4 * count, "gradients": 4 * count, "moments": 8 * count, "ema": 0,
                      "activations_kept": 0, "activations_peak": 0}
    assert f"{count:,}" in one.table() and "beside" not in two.table()


def test_a_run_without_a_critic_keeps_its_name_and_old_configs_load():
    config = smoke.get_config("vae")
    old = config.to_dict()
    for name in ("critic_weight", "critic_from", "critic_lead", "perceptual_from", "temporal_from"):
        del old["objective"][name]
    del old["critic"], old["optimizer"]["critic"], old["optimizer"]["critic_beta1"]
    assert identity.run_id(old) == identity.run_id(config.to_dict()) != identity.run_id(config_of().to_dict())
    before = build.from_json(build.to_json(build.ConfigDict(old)))
    validation.validate(before)
    assert build.graph(before)[1] == build.graph(config)[1] and build.learner(before) and costs.budget(before)


@pytest.mark.parametrize("change, words", [
    ({"critic.patch": 3}, "critic.patch=3 does not divide frames of 16×16"),
    ({"critic.depth": 0}, "critic.depth=0 must be positive"),
    ({"optimizer.critic": 0.0}, "optimizer.critic=0.0 must be positive"),
    ({"optimizer.critic_beta1": 1.0}, "optimizer.critic_beta1=1.0 is not"),
    ({"objective.critic_from": 1.2}, "objective.critic_from=1.2 is not a fraction"),
    ({"objective.critic_weight": -1.0}, "objective.critic_weight=-1.0 must not be negative")])
def test_what_cannot_be_is_one_line(change, words):
    config = config_of()
    config.update_from_flattened_dict(change)
    with pytest.raises(ConfigError, match=words) as caught:
        validation.validate(config)
    assert "\n" not in str(caught.value)


def test_a_transformer_has_no_critic():
    config = smoke.get_config("dit")
    config.objective.critic_weight = 0.1
    with pytest.raises(ConfigError, match="objective.critic_weight=0.1 is for stage='vae'"):
        validation.validate(config, here=False)


class Blur(nnx.Module):
    """An autoencoder that halves the sides of a frame and cannot learn to do better, with its critic."""

    def __init__(self, config):
        self.decoder = nnx.Module()
        self.decoder.head = nnx.Module()
        self.decoder.head.weight = nnx.Param(jnp.eye(3), out_sharding=(None, None))
        self.critic = build.learner(config).critic

    def __call__(self, x, key):
        small = (*x.shape[:2], x.shape[2] // 2, x.shape[3] // 2, 3)
        soft = jax.image.resize(jax.image.resize(x, small, "linear"), x.shape, "linear")
        return soft @ self.decoder.head.weight[...], jnp.zeros(1), jnp.zeros(1)


def test_the_critic_tells_clips_from_blurred_ones():
    """On clips that it has not seen, after a short training of nothing but itself."""
    config = config_of()
    config.eval.clips = 64
    graph, params = state.split(lambda: Blur(config))
    tx = optimizer.of(config.optimizer, params)
    current = state.draw(lambda: Blur(config), tx)
    update = jax.jit(functools.partial(step.train_step, graph=graph, tx=tx, ema=build.ema(config), seed=0,
                                       objective=Objective(critic_weight=1.0, critic_from=1.0, critic_lead=1.0)))
    clips = sources.whole_clips(config)
    seen, held = video.to_float(jnp.asarray(clips[:32])), video.to_float(jnp.asarray(clips[32:64]))
    assert len(held) == 32 and not any(np.array_equal(a, b) for a in seen for b in held)
    batch = Batch(seen, jnp.zeros((32, 1), jnp.uint8), jnp.zeros((32, 1), bool))
    for _ in range(UPDATES):
        current, scalars = update(current, batch, jnp.float32(2e-3))
    model = nnx.merge(graph, nnx.State(current.params))
    real, soft = (np.asarray(model.critic(x)).mean((1, 2, 3)) for x in (held, model(held, None)[0]))
    assert np.mean(real > soft) > TOLD_APART and np.isfinite(scalars["adaptive"])
