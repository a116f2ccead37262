"""Published encoders say what transformers said when the reference was written, and keep what their papers promise."""
import dataclasses

import encoder_cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sora_jax import bridge
from sora_jax.models import clip_text, t5, vit
from sora_jax.nn import norm, transformer
from sora_jax.types import ConfigError

PARITY, SAME, DIFFERENT = 1e-4, 1e-5, 1e-3


@pytest.mark.parametrize("name", encoder_cases.CASES)
def test_it_says_what_transformers_said(name):
    said, stored = encoder_cases.said(name), encoder_cases.reference(name)
    assert set(said) == set(stored)
    found = {key: encoder_cases.largest(said[key], stored[key]) for key in stored}
    print(name, {key: f"{value:.1e}" for key, value in found.items()})
    assert max(found.values()) <= PARITY


@pytest.mark.parametrize("change", [
    lambda model: setattr(model.blocks, "activation", "quick_gelu"),
    lambda model: model.blocks.norm_mlp.scale.set_value(model.blocks.norm_mlp.scale[...][::-1]),
    lambda model: model.positions.set_value(model.positions[...][::-1]),
], ids=["activation", "gain", "positions"])
def test_another_function_is_seen(change):
    name = "vit, oblong"
    model = nnx.clone(encoder_cases.ours(name))
    change(model)
    said = model.logits(jnp.asarray(encoder_cases.inputs(name)["frames"]))
    assert encoder_cases.largest(said, encoder_cases.reference(name)["logits"]) > DIFFERENT


def test_the_default_is_b16():
    config = vit.Config()
    assert (config.tokens, config.width, config.grid) == (197, 768, (14, 14))
    made = nnx.eval_shape(lambda: vit.build(dataclasses.replace(config, classes=1000), rngs=nnx.Rngs(0)))
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(made))) == 86_567_656
    frames = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    assert jax.eval_shape(lambda model, x: model(x), made, frames).shape == (2, 197, 768)
    assert jax.eval_shape(lambda model, x: model.logits(x), made, frames).shape == (2, 1000)


def test_a_patch_is_a_token():
    """A pixel changes, before attention, the token of its own patch only; tokens go row by row after the class."""
    model = encoder_cases.ours("vit, oblong")
    x = jnp.asarray(encoder_cases.inputs("vit, oblong")["frames"][:1])
    moved = np.asarray(model.tokenise(x.at[0, 5, 17, 0].add(1.0)) - model.tokenise(x))[0]
    assert list(np.flatnonzero(np.abs(moved).max(1))) == [1 + 1 * 6 + 2]
    for asked, words in ((lambda: model(x[:, :8]), r"frames of \(8, 48, 3\) do not fit image=\(16, 48\)"),
                         (lambda: encoder_cases.ours("vit, pooler").logits(x), "has no head"),
                         (lambda: vit.Config(image=(30, 32)), "does not divide"),
                         (lambda: vit.Config(heads=7), "width=768")):
        with pytest.raises(ConfigError, match=words):
            asked()


@pytest.mark.parametrize("name", ["t5", "umt5"])
def test_padding_changes_nothing_and_words_do(name):
    model, given = encoder_cases.ours(name), encoder_cases.inputs(name)
    kept = int(given["mask"][0].sum())
    states = np.asarray(model(*map(jnp.asarray, given.values())))[0, :kept]
    other = {**given, "tokens": np.where(given["mask"], given["tokens"], 7)}
    short = {key: value[:, :kept] for key, value in given.items()}
    for case in (other, short):
        assert encoder_cases.largest(np.asarray(model(*map(jnp.asarray, case.values())))[0, :kept], states) <= SAME
    other["tokens"][0, kept - 1] = 5
    first = np.asarray(model(*map(jnp.asarray, other.values())))[0, 0]
    assert encoder_cases.largest(first, states[0]) > DIFFERENT, "the encoder looks both ways"


def test_clip_looks_back_only():
    model, given = encoder_cases.ours("clip"), encoder_cases.inputs("clip")
    tokens = jnp.asarray(given["tokens"])
    states = np.asarray(model(tokens))
    moved = np.abs(np.asarray(model(tokens.at[:, 8].set(3))) - states).max((0, 2))
    assert moved[:8].max() == 0 and moved[8:].min() > DIFFERENT
    np.testing.assert_allclose(model.pooled(tokens)[0], states[0, 10], atol=SAME)
    for asked, words in ((lambda: model(jnp.zeros((1, 21), int)), "captions of 21 tokens, length=20"),
                         (lambda: model.embedded(tokens), "projection=0"),
                         (lambda: clip_text.Config(activation="relu"), "activation='relu'"),
                         (lambda: clip_text.Config(heads=7), "width=768")):
        with pytest.raises(ConfigError, match=words):
            asked()


def test_positions_have_buckets():
    """Near distances one each, far ones by powers, all that are further in the last; keys before and after apart."""
    found = t5.bucket(300, 32, 128)
    assert found[0, 0] == 0 and list(found[0, 1:9]) == [17, 18, 19, 20, 21, 22, 23, 24]
    assert list(found[:9, 0]) == list(range(9)) and set(found.ravel()) == set(range(32)) - {16}
    assert list(found[[16, 32, 64, 127, 128, 299], 0]) == [10, 12, 14, 15, 15, 15]
    assert (found[1:, 1:] == found[:-1, :-1]).all()
    with pytest.raises(ConfigError, match="buckets=30"):
        t5.Config(buckets=30)


def test_layer_norm_with_gain_is_affine():
    x = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    layer = norm.LayerNorm(8, epsilon=1e-2, rngs=nnx.Rngs(0))
    layer.scale.set_value(jnp.arange(8.0)), layer.bias.set_value(jnp.ones(8))
    want = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-2) * np.arange(8) + 1
    np.testing.assert_allclose(layer(jnp.asarray(x)), want, atol=SAME)


def test_activations_are_what_they_are_called():
    x = jnp.linspace(-3, 3, 13)
    np.testing.assert_allclose(transformer.gelu(x), x * jax.scipy.stats.norm.cdf(x), atol=SAME)
    assert 1e-3 < np.abs(transformer.quick_gelu(x) - transformer.gelu(x)).max() < 0.03


@pytest.mark.parametrize("module, ask, config, shapes", [
    (vit, "logits", vit.Config(depth=1, classes=1000), [(1, 224, 224, 3)]),
    (t5, "__call__", t5.Config(depth=1), [(1, 77), (1, 77)]),
    (clip_text, "embedded", clip_text.Config(depth=1, projection=512), [(1, 77)]),
], ids=["vit", "t5", "clip"])
def test_flops_are_what_the_compiler_counts(module, ask, config, shapes):
    """At one layer, since the compiler counts a scanned layer once; it also counts what is no matmul."""
    made = nnx.eval_shape(lambda: module.build(config, rngs=nnx.Rngs(0)))
    given = [jax.ShapeDtypeStruct(shape, kind) for shape, kind in
             zip(shapes, (jnp.float32 if len(shapes[0]) == 4 else jnp.int32, jnp.bool_), strict=False)]
    counted = jax.jit(lambda model, *x: getattr(model, ask)(*x)).lower(made, *given).compile().cost_analysis()["flops"]
    told = sum((module.flops(config, 77) if module is t5 else module.flops(config)).values())
    assert 1 <= counted / told < 1.05, (counted, told)


def test_one_folder_one_call(tmp_path):
    """`load` finds the layout, and the folder that `save` writes is the same model."""
    name = "clip, projection"
    named = encoder_cases.shapes(name)
    encoder_cases.write(name, tmp_path, named)
    opened = bridge.open_folder(tmp_path, "transformers-clip-text")
    assert len(opened.shapes) == len(named) and "text_projection.weight" in bridge.described(opened)
    bridge.save(tmp_path / "own", opened)
    own = bridge.load(tmp_path / "own")
    assert own.config == encoder_cases.ours(name).config
    for one, other in zip(jax.tree.leaves(nnx.state(own)), jax.tree.leaves(nnx.state(encoder_cases.ours(name))),
                          strict=True):
        np.testing.assert_array_equal(one, other)
