"""Every variant of the transformer: zero when fresh, costs what is counted, reads what it should, packs and images."""
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from sora_jax.models import dit
from sora_jax.nn import groups
from sora_jax.types import ConfigError

TOLERANCE = 2e-5
VARIANTS = {
    "default": {}, "single": {"modulation": "single"}, "joint": {"text": "joint"}, "prefix": {"text": "prefix"},
    "joint-single": {"text": "joint", "modulation": "single", "mlp": "swiglu", "positions": "sincos"},
    "pooled": {"text": "none"}, "cross-alone": {"pooled": "none", "caption_mlp": True, "cross_norm": True},
    "swiglu": {"mlp": "swiglu", "qk_norm": "full"}, "plain": {"qk_norm": "none", "positions": "none", "hidden": 40},
    "learned": {"positions": "learned", "length": 12}, "2-d": {"positions": "sincos-2d"},
    "rotary": {"positions": "rotary"},
    "factorised": {"attention": "factorised"}, "windowed": {"attention": "windowed", "window": (2, 1, 2)},
    "variance": {"variance": True, "time_shift": -1.0},
}
CONFIGS = {name: dataclasses.replace(tiny.CONFIG, **fields) for name, fields in VARIANTS.items()}
CLIPS = tiny.batch()
INPUTS = tiny.inputs(CLIPS)
LAYOUT = (3, 2, 2)
every = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def close(one, other, tolerance=TOLERANCE):
    one, other = np.asarray(one), np.asarray(other)
    np.testing.assert_allclose(one, other, atol=tolerance * np.abs(one).max())


@every
def test_fresh_it_is_zero_and_drawn_it_answers(config):
    assert (tiny.run(tiny.fresh(config), *INPUTS) == 0).all()
    out = tiny.run(tiny.model(config), *INPUTS)
    assert out.shape == INPUTS[0].shape and jnp.isfinite(out).all() and jnp.abs(out).max() > 0.1


@every
def test_flops_and_parameters_are_those_of_the_program(config):
    model, clips = tiny.fresh(config), tiny.batch(captions=("a red circle",))
    tokens, places = model.tokenise(clips.x)
    level = jnp.ones(tokens.shape[:2], int)
    traced = jax.make_jaxpr(lambda *x: model(*x, layout=LAYOUT))(tokens, places, jnp.ones((1, 2)), level, clips.text,
                                                                 clips.mask)
    counted = dit.flops(config, tiny.TEXT, tokens.shape[1], layout=LAYOUT)
    assert sum(counted.values()) + tiny.bias_flops(config) == tiny.matmul_flops(traced.jaxpr)
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    assert sum(dit.params_by_group(params).values()) == sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("name", ["joint-single", "prefix", "cross-alone", "swiglu", "learned", "variance"])
def test_every_weight_learns(name):
    """No weight of a variant is left out of the answer, but the last text stream, which nothing reads."""
    graph, params = nnx.split(tiny.model(CONFIGS[name]))
    grads = jax.jit(jax.grad(lambda p, *x: jnp.mean(jnp.square(nnx.merge(graph, p).everything(*x)))))(params, *INPUTS)
    for path, grad in nnx.to_flat_state(grads):
        still = np.asarray(jnp.abs(grad[...]).max(axis=tuple(range(1, grad[...].ndim)))) == 0
        if "blocks" in path:
            unread = path[1] in ("text_out", "text_up", "text_down", "text_modulation", "norm_text_q")
            assert not still[:-1].any() and (unread or not still[-1]), path
        elif path[0] != "text":
            assert not still.all(), path


def packed(order=(0, 1, 2), padding=3):
    """The three clips of INPUTS, of which the second has a single frame, in one row with padding at its end."""
    tokens, places, levels, level, text, mask = INPUTS
    lengths = [tokens.shape[1], 4, tokens.shape[1]]
    def row(x):
        x = np.asarray(x)
        parts = [x[i, :lengths[i]] for i in order]
        return jnp.asarray(np.concatenate([*parts, np.zeros((padding, *x.shape[2:]), x.dtype)])[None])

    segments = jnp.asarray([*np.repeat(np.arange(len(order)), [lengths[i] for i in order]), *[-1] * padding])[None]
    count = levels.shape[1]
    level = np.array(level)
    for slot, i in enumerate(order):
        level[i] += count * slot
    return (row(tokens), row(places), jnp.concatenate([levels[i] for i in order])[None], row(level),
            jnp.stack([text[i] for i in order])[None], jnp.stack([mask[i] for i in order])[None], segments), lengths


def apart(model, lengths, i):
    tokens, places, levels, level, text, mask = (x[i:i + 1] for x in INPUTS)
    n = lengths[i]
    return tiny.run(model, tokens[:, :n], places[:, :n], levels, level[:, :n], text, mask)


@every
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_packed_clips_are_what_they_are_alone(config, order):
    model = tiny.model(config)
    inputs, lengths = packed(order)
    row, start = tiny.run(model, *inputs), 0
    assert jnp.isfinite(row).all()
    for i in order:
        close(apart(model, lengths, i), row[:, start:start + lengths[i]])
        start += lengths[i]
    together = tiny.run(model, *inputs[:-1], jnp.zeros_like(inputs[-1]))
    assert jnp.abs(together - row)[:, :start].max() > 1e-2


@pytest.mark.parametrize("name", ["default", "joint"])
def test_the_gradient_of_a_packed_row_is_the_sum_of_its_clips(name):
    config = CONFIGS[name]
    graph, params = nnx.split(tiny.model(config))
    inputs, _ = packed((0, 2))
    clips = [[x[i:i + 1] for x in INPUTS] for i in (0, 2)]

    @jax.jit
    def gradient(p, real, *inputs):
        def total(p):
            return jnp.where(real, jnp.square(nnx.merge(graph, p)(*inputs)), 0).sum()

        return jax.grad(total)(p)

    alone = [gradient(params, True, *clip) for clip in clips]
    row = gradient(params, inputs[-1][..., None] >= 0, *inputs)
    jax.tree.map(lambda *parts: close(sum(parts[:-1]), parts[-1]), *alone, row)


@pytest.mark.parametrize("name", ["factorised", "windowed"])
def test_groups_by_sorting_are_groups_by_mask(name):
    model = tiny.model(CONFIGS[name])
    close(tiny.run(model, *INPUTS), jax.jit(lambda *x: model(*x, layout=LAYOUT))(*INPUTS))
    full = nnx.merge(nnx.split(tiny.fresh())[0], nnx.split(model)[1])
    assert jnp.abs(tiny.run(full, *INPUTS) - tiny.run(model, *INPUTS)).max() > 1e-2


@pytest.mark.parametrize("kind, window, layout", [
    ("factorised", (1, 1, 1), (3, 2, 4)), ("windowed", (2, 2, 2), (4, 4, 4)), ("windowed", (2, 2, 3), (3, 5, 4))])
@pytest.mark.parametrize("odd", [False, True])
def test_sorting_into_groups_and_back(key, kind, window, layout, odd):
    by = groups.groups(kind, window, odd, layout)
    x = jax.random.normal(key, (2, np.prod(layout), 3))
    np.testing.assert_array_equal(groups.scatter(groups.gather(x, by), by), x)
    weight = jax.random.normal(jax.random.fold_in(key, 1), (2, *by.index.shape, 3))
    for sort in (lambda x: groups.gather(x, by), lambda x: jnp.where(by.real[..., None], x[:, by.index], 0)):
        grad = jax.grad(lambda x, sort=sort: (jnp.where(by.real[..., None], sort(x), 0) * weight).sum())(x)
        np.testing.assert_allclose(grad, (weight.reshape(2, -1, 3)[:, by.back]), rtol=1e-6)
    pairs = groups.scores(kind, window, layout)[odd]
    assert pairs >= int(by.real.sum(axis=1).astype(int) @ by.real.sum(axis=1))
    if kind == "factorised":
        assert pairs == by.real.sum(axis=1) @ by.real.sum(axis=1)


@pytest.mark.parametrize("text", ["cross", "joint", "prefix"])
def test_padding_of_captions_is_not_read(text):
    model = tiny.model(dataclasses.replace(tiny.CONFIG, text=text, pooled="none"))
    *rest, text_bytes, mask = INPUTS
    close(tiny.run(model, *rest, text_bytes, mask), tiny.run(model, *rest, jnp.where(mask, text_bytes, 255), mask))
    other = tiny.run(model, *rest, text_bytes[::-1], mask[::-1])
    assert jnp.abs(other - tiny.run(model, *rest, text_bytes, mask))[0].max() > 1e-3


@pytest.mark.parametrize("kind, blind", [("none", {0, 1, 2}), ("sincos-2d", {0}), ("learned", {0, 1, 2}),
                                         ("sincos", set()), ("rotary", set())])
def test_positions_tell_what_they_say(kind, blind):
    """Moving every second token along an axis changes the answer, unless the code does not know that axis."""
    model = tiny.model(dataclasses.replace(tiny.CONFIG, positions=kind, length=12))
    tokens, places, *rest = INPUTS
    for axis in range(3):
        moved = tiny.run(model, tokens, places.at[:, ::2, axis].add(3), *rest)
        assert (jnp.abs(moved - tiny.run(model, *INPUTS)).max() < 1e-6) == (axis in blind)


def test_without_positions_order_is_nothing_and_learned_ones_tell_it(key):
    order = jax.random.permutation(key, INPUTS[0].shape[1])
    tokens, places, levels, level, *caption = INPUTS
    for name, same in (("plain", True), ("learned", False)):
        out = tiny.run(tiny.model(CONFIGS[name]), *INPUTS)[:, order]
        moved = tiny.run(tiny.model(CONFIGS[name]), tokens[:, order], places, levels, level[:, order], *caption)
        assert (jnp.abs(out - moved).max() < 1e-4) == same


@pytest.mark.parametrize("fields, name", [
    ({"text": "sidewise"}, "model.text"), ({"pooled": "direct"}, "text.width"),
    ({"positions": "learned"}, "model.length"),
    ({"attention": "factorised", "text": "joint"}, "model.attention"), ({"attention": "windowed", "depth": 3}, "depth"),
    ({"cross_norm": True, "text": "none"}, "model.cross_norm"), ({"window": (0, 1, 1)}, "model.window"),
    ({"positions": "sincos-2d", "width": 18, "heads": 1}, "model.width")])
def test_what_does_not_go_together_is_refused(fields, name):
    with pytest.raises(ConfigError, match=name):
        dataclasses.replace(tiny.CONFIG, **fields)


def test_learned_positions_end():
    with pytest.raises(ConfigError, match="model.length=3"):
        tiny.model(dataclasses.replace(tiny.CONFIG, positions="learned", length=3))(*INPUTS)
