"""Captions are encoded once, by the encoder that they were kept for, and again when a file is torn."""
import builtins
import json

import jax.numpy as jnp
import numpy as np
import pytest
import worded
from flax import nnx

from sora_jax import bridge, captions, states
from sora_jax.models import clip_text
from sora_jax.types import InputError

SAME = 1e-5
WORDS = ["a red circle", "two blue squares move", "a red circle", "x " * 30]
LENGTH = 6


@pytest.fixture(scope="module")
def encoder():
    return worded.encoder()


@pytest.fixture
def counted(monkeypatch):
    """Captions that were encoded, batch by batch."""
    seen, plain = [], captions.made

    def noted(encoder, texts, *rest):
        seen.append(texts)
        return plain(encoder, texts, *rest)

    monkeypatch.setattr(captions, "made", noted)
    return seen


def test_states_are_the_models_whatever_the_batch(encoder):
    made, mask = captions.encode(encoder, WORDS, LENGTH, batch=3)
    assert made.shape == (4, LENGTH, 8) and list(mask.sum(1)) == [4, 5, 4, 6]
    assert not made[~mask].any() and np.isfinite(made).all()
    np.testing.assert_array_equal(made[0], made[2])
    for i, words in enumerate(WORDS):
        numbers, kept = captions.tokens(encoder, [words], LENGTH)
        alone = np.asarray(encoder.model(jnp.asarray(numbers), jnp.asarray(kept)))[0, :kept.sum()]
        np.testing.assert_allclose(made[i, :kept.sum()], alone, atol=SAME)


def test_what_is_kept_is_not_made_again(encoder, counted, tmp_path):
    cache = tmp_path / "states"
    first = captions.encode(encoder, WORDS, LENGTH, cache, batch=2)
    assert [len(texts) for texts in counted] == [2, 1], "the caption that comes twice is encoded once"
    counted.clear()
    again = captions.encode(encoder, WORDS[::-1], LENGTH, cache)
    assert not counted
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other[::-1])
    captions.encode(encoder, [*WORDS, "new"], LENGTH, cache)
    captions.encode(encoder, WORDS[:1], LENGTH + 1, cache)
    assert counted == [["new"], WORDS[:1]]


@pytest.mark.parametrize("harm", [
    lambda path: path.write_bytes(path.read_bytes()[:-5]), lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])),
    lambda path: path.unlink(),
], ids=["cut", "empty", "a bit", "gone"])
def test_a_torn_file_is_made_again(encoder, counted, tmp_path, harm):
    first = captions.encode(encoder, WORDS[:2], LENGTH, tmp_path)[0]
    path = tmp_path / f"{captions.origin(encoder).key(WORDS[1], LENGTH)}.safetensors"
    whole = path.read_bytes()
    harm(path)
    counted.clear()
    np.testing.assert_array_equal(captions.encode(encoder, WORDS[:2], LENGTH, tmp_path)[0], first)
    assert counted == [WORDS[1:2]] and path.read_bytes() == whole


def test_the_states_of_another_encoder_are_refused(encoder, tmp_path):
    captions.encode(encoder, WORDS[:1], LENGTH, tmp_path / "a")
    for field in ("weights", "tokenizer"):
        other = encoder._replace(**{field: "other"})
        assert captions.origin(other).key(WORDS[0], LENGTH) != captions.origin(encoder).key(WORDS[0], LENGTH)
        with pytest.raises(InputError, match=f"a holds states of {field} {field}, not other; give another folder"):
            captions.encode(other, WORDS[:1], LENGTH, tmp_path / "a")
    (tmp_path / "a" / states.META).write_text("{")
    with pytest.raises(InputError, match="is damaged"):
        captions.encode(encoder, WORDS[:1], LENGTH, tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        captions.encode(encoder, WORDS[:1], LENGTH, tmp_path / "b")


def test_a_caption_without_tokens_is_named(encoder):
    with pytest.raises(InputError, match="caption 1 .'none'. has no tokens"):
        captions.encode(encoder._replace(tokenize=lambda texts, length: [[1], []]), ["one", "none"], LENGTH, batch=2)


def test_what_is_missing_is_said(monkeypatch, tmp_path):
    plain = builtins.__import__

    def without(name, *rest, **more):
        if name == "tokenizers":
            raise ImportError(name)
        return plain(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"need the library tokenizers: pip install -e '.\[text\]'"):
        captions.open_encoder(tmp_path)


def written(folder, size: int = 40):
    """A tokenizer of words, which ends a caption with 1, and a small CLIP's text side."""
    tokenizers = pytest.importorskip("tokenizers", reason="needs pip install -e '.[text]'")
    words = ["<unk>", "<end>", "a", "red", "circle", "two", *(f"w{k}" for k in range(6, size))]
    vocab = {word: k for k, word in enumerate(words)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, "<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing("$0 <end>", special_tokens=[("<end>", 1)])
    made.enable_padding(length=50)
    folder.mkdir(exist_ok=True)
    made.save(str(folder / captions.TOKENIZER))
    model = worded.drawn(clip_text, clip_text.Config(40, 8, 2, 2, 12, 10, eos=1))
    fields = {"name": "clip_text", **vars(model.config)}
    bridge.write_folder(folder, "transformers-clip-text", fields, nnx.to_pure_dict(nnx.state(model)))
    return model


def test_a_folder_is_an_encoder(tmp_path):
    model = written(tmp_path / "text")
    found = captions.open_encoder(tmp_path / "text")
    numbers, mask = captions.tokens(found, ["a red circle", "two", "a a a a a a a a"], LENGTH)
    assert numbers.tolist() == [[2, 3, 4, 1, 0, 0], [5, 1, 0, 0, 0, 0], [2, 2, 2, 2, 2, 1]]
    made, _ = captions.encode(found, ["a red circle"], LENGTH, tmp_path / "kept")
    np.testing.assert_allclose(made[0, :4], np.asarray(model(jnp.asarray(numbers[:1, :4])))[0], atol=SAME)
    again = captions.open_encoder(tmp_path / "text")
    assert again[2:] == found[2:]
    assert captions.encode(found, [], LENGTH)[0].shape == (0, LENGTH, 8)
    kept = json.loads((tmp_path / "kept" / states.META).read_text())
    assert (kept["weights"], kept["tokenizer"]) == found[2:]


def test_what_does_not_belong_together_is_refused(tmp_path):
    written(tmp_path / "text", size=44)
    with pytest.raises(InputError, match="has 44 tokens, the encoder at .* knows 40; give its own tokenizer"):
        captions.open_encoder(tmp_path / "text")
    (tmp_path / "text" / captions.TOKENIZER).write_text("{}")
    with pytest.raises(InputError, match="tokenizer.json is no tokenizer"):
        captions.open_encoder(tmp_path / "text")
    with pytest.raises(InputError, match="no .*tokenizer.json; give the folder that holds it"):
        captions.open_encoder(tmp_path)
