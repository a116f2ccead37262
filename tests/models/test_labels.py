"""Class labels and given states in the place of captions."""
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from configs import dit_image
from sora_jax import pipeline
from sora_jax.models import dit, given, labels
from sora_jax.types import ConfigError, InputError

WIDTH = 16


def test_a_label_is_its_row_and_none_the_last():
    table = labels.build(labels.Config(WIDTH, 300), rngs=nnx.Rngs(0))
    states, kept = table(*map(jnp.asarray, labels.tokenize(["0", "299", "", "257"])))
    np.testing.assert_array_equal(states[:, 0], table.table[...][jnp.array([0, 299, 300, 257])])
    assert states.shape == (4, 1, WIDTH) and kept.all()


@pytest.mark.parametrize("caption", ["a cat", "-1", "65536", "1.5", "²"])
def test_what_is_no_label_is_refused(caption):
    with pytest.raises(InputError, match="is no class label"):
        labels.tokenize([caption])


def test_a_class_that_the_model_has_not_is_refused():
    config = dit_image.get_config("S/8")
    pipeline.tokens(config, ["999"])
    with pytest.raises(InputError, match="numbered from 0 to 999"):
        pipeline.tokens(config, ["3", "1000"])


@pytest.mark.parametrize("module, fields", [(labels, {"classes": 0}), (labels, {"classes": 2**16}),
                                            (given, {"width": 0}), (given, {"length": 0})])
def test_sizes_that_cannot_be_are_refused(module, fields):
    with pytest.raises(ConfigError, match="text."):
        module.Config(**fields)


def test_given_states_take_no_bytes_and_no_caption_is_their_null():
    """Through a transformer: captions of no bytes are the null state, any others are refused."""
    config = dataclasses.replace(tiny.CONFIG, text_width=WIDTH)
    model = dit.build(config, rngs=nnx.Rngs(0), text_encoder=given.build(given.Config(WIDTH, 8), rngs=nnx.Rngs(1)))
    model.head.kernel.set_value(jnp.ones_like(model.head.kernel[...]))
    tokens, places, levels, level, text, mask = tiny.inputs(tiny.batch())
    null = jnp.broadcast_to(model.text.null[...], (3, 1, WIDTH)), jnp.ones((3, 1), bool)
    said = model(tokens, places, levels, level, None, None, text_states=null)
    assert jnp.abs(said).max() > 0
    empty = map(jnp.asarray, given.tokenize(["", "", ""], 8))
    np.testing.assert_array_equal(model(tokens, places, levels, level, *empty), said)
    for refused in (lambda: model(tokens, places, levels, level, text, mask), lambda: given.tokenize(["a"], 8)):
        with pytest.raises(InputError, match="encoded elsewhere"):
            refused()


def test_given_states_stand_for_bytes():
    """States passed as text are read as text_states are; a dropped caption becomes the null state."""
    config = dataclasses.replace(tiny.CONFIG, text_width=WIDTH)
    graph, shapes = nnx.split(nnx.eval_shape(lambda: dit.build(
        config, rngs=nnx.Rngs(0), text_encoder=given.build(given.Config(WIDTH, 4), rngs=nnx.Rngs(1)))))
    rng = np.random.default_rng(1)
    noisy = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.3, leaf.shape), jnp.float32), shapes)
    model = nnx.merge(graph, noisy)
    model.text.null.set_value(jnp.full(WIDTH, 2.0))
    tokens, places, levels, level, _, _ = tiny.inputs(tiny.batch())
    states = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, WIDTH)), jnp.float32)
    mask = jnp.array([[True, True, False, False], [False] * 4, [True] * 4])
    said = model(tokens, places, levels, level, states, mask)
    dropped = jnp.where(mask.any(1)[:, None, None], states, 2.0), mask.at[1, 0].set(True)
    np.testing.assert_array_equal(said, model(tokens, places, levels, level, None, None, text_states=dropped))
    assert jnp.abs(said[0] - model(tokens, places, levels, level, -states, mask)[0]).max() > 1e-2
    packed = model.encode_text(states[None], mask[None])
    np.testing.assert_array_equal(packed[0][0], dropped[0].at[1, 1:].set(states[1, 1:]))
