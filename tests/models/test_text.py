"""Captions: bytes of any script, padding without effect, one null state for no caption."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from sora_jax.models import text
from sora_jax.types import ConfigError

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def encode():
    model = tiny.model()
    return jax.jit(lambda captions, mask: model.text(captions, mask))


def test_tokenize_is_utf8_cut_between_characters():
    captions, mask = text.tokenize(["red", "", "红色的圆形", "a" * 40], 16)
    assert captions.shape == (4, 16) and captions.dtype == np.uint8
    assert bytes(captions[0][mask[0]]).decode() == "red" and not mask[1].any() and mask[3].all()
    assert bytes(captions[2][mask[2]]).decode() == "红色的圆形"
    cut, kept = text.tokenize(["红色的圆形"], 8)
    assert bytes(cut[0][kept[0]]).decode() == "红色" and kept.sum() == 6


def test_padding_bytes_do_not_matter(encode):
    captions, mask = text.tokenize(list(tiny.CAPTIONS), tiny.TEXT.length)
    states, kept = encode(captions, mask)
    noise = np.random.default_rng(0).integers(0, 256, captions.shape).astype(np.uint8)
    other, kept_other = encode(np.where(mask, captions, noise), mask)
    np.testing.assert_array_equal(states, other)
    np.testing.assert_array_equal(kept, kept_other)
    assert states.shape == (3, tiny.TEXT.states, tiny.TEXT.width)


def test_states_do_not_see_the_length_of_the_padding():
    model = tiny.model()
    short, long = (model.text(*map(jnp.asarray, text.tokenize(["a red circle"], length))) for length in (12, 16))
    np.testing.assert_allclose(short[0], long[0][:, :3], atol=TOLERANCE)
    assert long[1].tolist() == [[True, True, True, False]]


def test_no_caption_is_one_learned_state(encode):
    captions, mask = text.tokenize(["", "a red circle"], tiny.TEXT.length)
    states, kept = encode(captions, mask)
    dropped, kept_dropped = encode(captions[::-1], np.zeros_like(mask))
    assert kept.sum(1).tolist() == [1, 3] and kept_dropped.sum(1).tolist() == [1, 1]
    np.testing.assert_allclose(dropped[0, 0], states[0, 0], atol=TOLERANCE)
    assert jnp.isfinite(states).all()


def test_the_null_state_is_learned_from_missing_captions_alone():
    graph, params = nnx.split(tiny.model().text)
    captions, mask = map(jnp.asarray, text.tokenize(["", "a red circle"], tiny.TEXT.length))
    slope = jax.jit(jax.jacrev(lambda p: jnp.sin(nnx.merge(graph, p)(captions, mask)[0]).sum((1, 2))))(params)
    assert jnp.abs(slope["null"][...][0]).max() > 1e-3 and (slope["null"][...][1] == 0).all()
    assert (slope["bytes"][...][0] == 0).all() and jnp.abs(slope["bytes"][...][1]).max() > 1e-3


@pytest.mark.parametrize("one,other", [("a red circle", "a red square"), ("红色的圆形", "蓝色的圆形"),
                                       ("red then blue", "blue then red")])
def test_different_captions_differ(encode, one, other):
    states, kept = encode(*text.tokenize([one, other], tiny.TEXT.length))
    mean = (states * kept[..., None]).sum(1) / kept.sum(1, keepdims=True)
    assert jnp.abs(mean[0] - mean[1]).max() > 0.01


def test_grams_hash_whole_words_wherever_they_stand():
    captions, mask = map(jnp.asarray, text.tokenize(["red", "a red"], 8))
    hashes = text.gram_hashes(captions, mask, 3, 1 << 20)
    assert hashes[0, 2] == hashes[1, 4]
    assert len(set(np.asarray(hashes[1, :5]).tolist())) == 5


def test_flops_are_those_of_the_program():
    model, (captions, mask) = tiny.model(), text.tokenize(["a red circle"], tiny.TEXT.length)
    traced = jax.make_jaxpr(lambda c, m: model.text(c, m)[0])(captions, mask)
    assert text.flops(tiny.TEXT)["text"] == tiny.matmul_flops(traced.jaxpr)


@pytest.mark.parametrize("fields,name", [({"heads": 3}, "heads"), ({"length": 126}, "pool")])
def test_bad_configs_are_refused(fields, name):
    with pytest.raises(ConfigError, match=name):
        text.Config(**fields)
