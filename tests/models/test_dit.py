"""The transformer: zero when fresh, the same however it is executed, blind to token order and to other segments."""
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from sora_jax.models import dit
from sora_jax.types import ConfigError

TOLERANCE = 2e-5
INPUTS = tiny.inputs(tiny.batch())


def variant(**fields):
    """The same weights under another config: only the static part of the graph differs."""
    config = dataclasses.replace(tiny.CONFIG, **fields)
    return nnx.merge(nnx.split(tiny.fresh(config))[0], nnx.split(tiny.model())[1])


def close(one, other, tolerance=TOLERANCE):
    one, other = np.asarray(one), np.asarray(other)
    np.testing.assert_allclose(one, other, atol=tolerance * np.abs(one).max())


def gradients(model):
    graph, params = nnx.split(model)

    def loss(params):
        return jnp.mean(jnp.square(nnx.merge(graph, params)(*INPUTS)))

    return jax.jit(jax.value_and_grad(loss)), params


def test_a_fresh_model_is_zero_and_a_drawn_one_is_not():
    assert (tiny.run(tiny.fresh(), *INPUTS) == 0).all()
    out = tiny.run(tiny.model(), *INPUTS)
    assert out.shape == INPUTS[0].shape and jnp.abs(out).min(axis=(1, 2)).min() > 0 and jnp.isfinite(out).all()


def test_only_parameters_with_names_for_every_axis():
    graph, params, rest = nnx.split(tiny.fresh(), nnx.Param, ...)
    assert not jax.tree.leaves(rest)
    for path, weight in nnx.to_flat_state(params):
        names = weight.get_metadata()["out_sharding"]
        assert len(names) == weight[...].ndim, path
        assert (names[0] == "layers") == ("blocks" in path or "layers" in path), path


def test_how_it_runs_does_not_change_what_it_computes():
    """Scan or unrolled, remat or not: equal losses and gradients, from programs that do differ."""
    arms = {"dots": {}, "none": {"remat": "none"}, "full": {"remat": "full"}, "loop": {"scan": False}}
    seen, results = {}, {}
    for name, fields in arms.items():
        step, params = gradients(variant(**fields))
        program = str(jax.make_jaxpr(step)(params))
        seen[name] = ("remat" in program, "DotsSaveable" in program, "unroll=2" in program)
        results[name] = step(params)
    assert seen == {"dots": (True, True, False), "none": (False, False, False), "full": (True, False, False),
                    "loop": (True, True, True)}
    for name in ("none", "full", "loop"):
        jax.tree.map(close, results["dots"], results[name])


def test_tokens_know_their_place_and_nothing_else_orders_them(key):
    tokens, places, levels, level, *caption = INPUTS
    order = jax.random.permutation(key, tokens.shape[1])
    out = tiny.run(tiny.model(), *INPUTS)
    moved = tiny.run(tiny.model(), tokens[:, order], places[:, order], levels, level[:, order], *caption)
    close(out[:, order], moved)
    lost = tiny.run(tiny.model(), tokens[:, order], places, levels, level[:, order], *caption)
    assert jnp.abs(lost - moved).max() > 0.01


@pytest.mark.parametrize("change", ["levels", "level", "text", "positions", "tokens"])
def test_every_input_matters(change):
    tokens, places, levels, level, text, mask = INPUTS
    other = {"levels": (tokens, places, levels + 0.1, level, text, mask),
             "level": (tokens, places, levels, 1 - level, text, mask),
             "text": (tokens, places, levels, level, text[::-1], mask[::-1]),
             "positions": (tokens, places.at[..., 2].multiply(2), levels, level, text, mask),
             "tokens": (tokens.at[:, 0].add(1), places, levels, level, text, mask)}[change]
    assert jnp.abs(tiny.run(tiny.model(), *INPUTS) - tiny.run(tiny.model(), *other)).max() > 1e-3


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_a_token_gets_the_modulation_of_its_level(key, count):
    modulation, level = jax.random.normal(key, (2, count, 3)), jax.random.randint(key, (2, 5), 0, count)
    got = jnp.broadcast_to(dit.select(modulation, level), (2, 5, 3))
    np.testing.assert_allclose(got, jnp.take_along_axis(modulation, level[..., None], axis=1), rtol=1e-6)


def test_one_level_equals_two_equal_levels():
    tokens, places, levels, level, *caption = INPUTS
    one = tiny.run(tiny.model(), tokens, places, levels[:, :1], 0 * level, *caption)
    close(one, tiny.run(tiny.model(), tokens, places, levels[:, :1].repeat(2, 1), level, *caption))


def test_states_may_stand_in_for_the_caption():
    states = tiny.model().encode_text(*INPUTS[4:])
    close(tiny.run(tiny.model(), *INPUTS), tiny.run(tiny.model(), *INPUTS[:4], None, None, text_states=states))


def test_weights_may_be_numpy_inside_a_compiled_function():
    """A loaded checkpoint is numpy; a notebook closes over it."""
    graph, params = nnx.split(tiny.model())
    loaded = nnx.merge(graph, jax.tree.map(np.asarray, params))
    close(tiny.run(tiny.model(), *INPUTS), jax.jit(lambda *inputs: loaded(*inputs))(*INPUTS))


def test_padding_and_missing_captions():
    tokens, places, levels, level, text, mask = INPUTS
    out = tiny.run(tiny.model(), *INPUTS)
    close(out, tiny.run(tiny.model(), tokens, places, levels, level, jnp.where(mask, text, 255), mask))
    nothing = tiny.run(tiny.model(), tokens, places, levels, level, text, jnp.zeros_like(mask))
    close(nothing[1], out[1])
    assert jnp.abs(nothing[0] - out[0]).max() > 1e-3


def test_half_precision_is_near():
    half = tiny.run(variant(dtype="bfloat16"), *INPUTS)
    full = tiny.run(tiny.model(), *INPUTS)
    assert half.dtype == jnp.float32 and 0 < jnp.abs(half - full).mean() < 0.1 * jnp.abs(full).mean()


def test_an_image_is_a_clip_of_one_frame():
    clips = tiny.batch()
    still = clips._replace(x=clips.x[:, :1])
    tokens, *_ = tiny.inputs(still)
    assert tokens.shape[1] == 4 and jnp.isfinite(tiny.run(tiny.model(), *tiny.inputs(still))).all()
    np.testing.assert_array_equal(tiny.model().untokenise(tokens, (1, 4, 4)), still.x)


@pytest.mark.parametrize("size", [{}, {"qk_norm": "none", "mlp_ratio": 2, "patch": (1, 4, 2), "depth": 1}])
def test_flops_and_parameters_are_those_of_the_program(size):
    config = dataclasses.replace(tiny.CONFIG, **size)
    model, clips = tiny.fresh(config), tiny.batch(captions=("a red circle",))
    tokens, places = model.tokenise(clips.x)
    level = jnp.ones(tokens.shape[:2], int)
    traced = jax.make_jaxpr(lambda *x: model(*x))(tokens, places, jnp.ones((1, 2)), level, clips.text, clips.mask)
    groups = dit.flops(config, tiny.TEXT, tokens.shape[1])
    assert sum(groups.values()) + tiny.bias_flops(config) == tiny.matmul_flops(traced.jaxpr)
    assert groups["attention_scores"] == 4 * config.depth * tokens.shape[1] ** 2 * config.width
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    counts = dit.params_by_group(params)
    assert sum(counts.values()) == sum(leaf.size for leaf in jax.tree.leaves(params))
    d, c = config.width, config.text_width
    assert counts["n_core"] == config.depth * ((4 + 2 * config.mlp_ratio) * d * d + 2 * d * d + 2 * c * d)
    assert counts["adaln"] == (6 * config.depth + 2) * d * (d + 1)


@pytest.mark.parametrize("fields,name", [({"heads": 5}, "heads"), ({"remat": "some"}, "remat"),
                                         ({"dtype": "f8"}, "dtype"), ({"heads": 8}, "head width")])
def test_bad_configs_are_refused(fields, name):
    with pytest.raises(ConfigError, match=name):
        dataclasses.replace(tiny.CONFIG, **fields)
