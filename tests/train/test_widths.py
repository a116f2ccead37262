"""Width rules: every weight has one, none acts at the base width, and with them a wider model moves no faster."""
import functools
import json
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx, traverse_util

from configs import smoke
from sora_jax import build, validation
from sora_jax.models import dit
from sora_jax.nn.linear import Linear
from sora_jax.train import optimizer, state, widths
from sora_jax.types import ConfigError

BASE, WIDTHS, HEAD = 32, (32, 64, 128, 256), 16
RATE, UPDATES, CLIPS = 1e-3, 6, 8
FLAT, GROWS = 0.1, 0.5  # slope of log RMS of a change against log width; measured: -0.08 to -0.01, and 0.7 to 0.9
DRAWN = 0.1  # error of a deviation measured on a thousand weights
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # half the time to compile


def config_of(width=BASE, rule="mup", **fields):
    """The smoke transformer, `width` wide, with AdamW everywhere unless `fields` of the optimizer say otherwise."""
    config = smoke.get_config("dit")
    config.model.width, config.model.heads, config.model.remat = width, width // HEAD, "none"
    config.optimizer.update({"muon": 0.0, "widths": rule, "base_width": BASE, **fields})
    return config


def split(config):
    return state.split(lambda: build.make(config))


def flat(tree):
    return traverse_util.flatten_dict(tree, sep="/")


@functools.cache
def drawn(width, rule):
    """The first weights. Bits of XLA's own generator, which compiles in a fraction of the time."""
    config = config_of(width, rule)
    with jax.default_prng_impl("rbg"):
        return jax.jit(lambda: nnx.to_pure_dict(nnx.state(build.make(config)))).lower().compile(QUICK)()


def kernels():
    """(path, shape, shape at twice the width, role) of every weight with two sides."""
    one, two = ({path: leaf for path, leaf in nnx.to_flat_state(split(config_of(width))[1])} for width in (64, 128))
    return [(path, leaf.shape, two[path].shape, widths.role(path, leaf.get_metadata()["out_sharding"]))
            for path, leaf in one.items() if path[-1] == "kernel"]


def test_the_role_of_a_weight_says_which_of_its_sides_grow():
    found = kernels()
    assert {name for *_, name in found} == set(widths.ROLES)
    for path, one, two, name in found:
        grows = widths.Role(two[-2] == 2 * one[-2], two[-1] == 2 * one[-1])
        assert widths.ROLES[name] == grows, (path, name, one, two)


@pytest.mark.parametrize("axes", [("in", "embed"), ("in", "out"), ("embed", "embed")])
def test_a_new_weight_without_a_role_is_named(axes):
    config = config_of()

    def make():
        model = build.make(config_of(rule="none"))
        model.novelty = Linear(BASE, BASE, axes=axes, rngs=nnx.Rngs(0))
        return model

    with pytest.raises(ConfigError, match=r"weight novelty/kernel .* has no role"):
        optimizer.of(config.optimizer, state.split(make)[1])


def test_first_weights_have_the_deviation_of_their_role():
    at_base, wide = flat(drawn(BASE, "none")), flat(drawn(256, "mup"))
    for path, *_, name in kernels():
        path = "/".join(path)
        before, after = float(np.std(at_base[path])), float(np.std(wide[path]))
        wanted = before * ((BASE / 256) ** 0.5 if name == "hidden" else 1)
        assert after == pytest.approx(wanted, rel=DRAWN), path
    assert float(np.std(flat(drawn(256, "none"))["time_out/kernel"])) == pytest.approx(0.02, rel=DRAWN)


def test_adam_moves_weights_of_a_growing_fan_in_less_and_decays_them_alike():
    updates, shapes = {}, split(config_of(2 * BASE))[1]
    params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), nnx.to_pure_dict(shapes))
    for rule in ("none", "mup"):
        tx = optimizer.of(config_of(2 * BASE, rule, weight_decay=0.1).optimizer, shapes)
        compiled = jax.jit(lambda params, tx=tx: tx.update(params, tx.init(params), params)[0]).lower(params)
        updates[rule] = flat(compiled.compile(QUICK)(params))
    decayed = flat(optimizer.matrices(shapes))
    for path, weight in widths.weights(shapes).items():
        path, factor = "/".join(path), 0.5 if weight.role.fan_in else 1.0
        wanted = factor * (updates["none"][path] - 0.1 * decayed[path])
        np.testing.assert_allclose(updates["mup"][path] - 0.1 * decayed[path], wanted, rtol=1e-5, err_msg=path)


def test_muon_keeps_its_rate():
    shapes, adamw, seen = split(config_of(2 * BASE))[1], optimizer.adamw, []
    with mock.patch.object(optimizer, "adamw", lambda **parts: seen.append(flat(parts["factors"])) or adamw()):
        for rate in (0.0, 8.0):
            optimizer.of(config_of(muon=rate).optimizer, shapes)
    (adam, muon), stacked = seen, flat(optimizer.hidden(shapes))
    assert adam == flat(widths.rates(shapes, BASE)) and set(adam.values()) == {0.5, 1.0}
    assert muon == {path: 1.0 if stacked[path] else factor for path, factor in adam.items()} != adam


def test_wrong_rules_are_one_line():
    for config, words in ((config_of(rule="sp"), "optimizer.widths='sp' is no width rule; choose one of none, mup"),
                          (config_of(base_width=0), "optimizer.base_width=0")):
        with pytest.raises(ConfigError, match=words):
            validation.validate(config, here=False)
    config = smoke.get_config("vae")
    config.optimizer.widths = "mup"
    with pytest.raises(ConfigError, match="is for stage='dit'"):
        validation.validate(config, here=False)


def test_a_config_from_before_there_were_rules_has_none():
    old = json.loads(build.to_json(config_of()))
    del old["optimizer"]["widths"], old["optimizer"]["base_width"]
    config = build.from_json(json.dumps(old))
    validation.validate(config, here=False)
    assert widths.base(config.optimizer) == 0


def through(seen, blocks, x, contexts):
    """All blocks in turn, noting the stream after each in `seen`."""
    graph, stack = nnx.split(blocks)
    for i in range(2):
        x = nnx.merge(graph, jax.tree.map(lambda leaf, i=i: leaf[i], stack))(x, contexts[0])
        seen[f"block {i}"] = x
    return x


@functools.cache
def trained(width, rule):
    """RMS of the change of each block's output and of the prediction after a few updates on fixed clips, and the
    weights. Caption states are noise: their encoder has one width."""
    config, (graph, shapes) = config_of(width, rule), split(config_of(width, rule))
    rng, tx = np.random.default_rng(0), optimizer.of(config.optimizer, shapes)
    x0, eps = jnp.asarray(rng.normal(size=(2, CLIPS, *build.latent_shape(config))), jnp.float32)
    text_states = jnp.asarray(rng.normal(size=(CLIPS, 4, config.text.width)), jnp.float32), jnp.ones((CLIPS, 4), bool)

    def predict(params):
        model = nnx.merge(graph, nnx.State(params))
        tokens, places = model.tokenise((x0 + eps) / 2)
        out = model(tokens, places, jnp.full((CLIPS, 1), 0.5), jnp.zeros(tokens.shape[:2], int), None, None,
                    text_states=text_states)
        return out, jnp.mean(jnp.square(out - model.tokenise(eps - x0)[0]))

    def coordinates(params):
        seen = {}
        with mock.patch.object(dit.DiT, "through", lambda model, *rest: through(seen, model.blocks, *rest)):
            return {"prediction": predict(params)[0], **seen}

    def update(_, carry):
        directions, opt = tx.update(jax.grad(lambda params: predict(params)[1])(carry[0]), carry[1], carry[0])
        return jax.tree.map(lambda p, u: p - RATE * u, carry[0], directions), opt

    def run(params):
        last = jax.lax.fori_loop(0, UPDATES, update, (params, tx.init(params)))[0]
        return jax.tree.map(lambda a, b: jnp.sqrt(jnp.mean((a - b) ** 2)), coordinates(last), coordinates(params)), last

    return jax.jit(run).lower(drawn(width, rule)).compile(QUICK)(drawn(width, rule))


def test_at_the_base_width_nothing_changes_in_any_bit():
    for one, other in ((drawn(BASE, "none"), drawn(BASE, "mup")), (trained(BASE, "none"), trained(BASE, "mup"))):
        jax.tree.map(np.testing.assert_array_equal, one, other)
    assert np.abs(trained(BASE, "mup")[1]["head"]["kernel"]).max() > RATE


def slopes(rule, sizes):
    """Of log RMS against log width, for each coordinate."""
    moved = [trained(width, rule)[0] for width in sizes]
    return {name: float(np.polyfit(np.log(sizes), np.log([float(row[name]) for row in moved]), 1)[0])
            for name in moved[0]}


def test_coordinates_of_wider_models_move_alike_under_the_rules_and_faster_without():
    ruled, naive = slopes("mup", WIDTHS), slopes("none", (WIDTHS[0], WIDTHS[-1]))
    assert set(ruled) == set(naive) == {"block 0", "block 1", "prediction"}
    assert all(abs(slope) < FLAT for slope in ruled.values()), ruled
    assert all(slope > GROWS for slope in naive.values()), naive
