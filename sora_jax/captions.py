"""Captions to the states of a published text encoder, kept on disk.

Enters: the folder of an encoder with its tokenizer.json, and captions. Leaves: states `b l d` with their mask, what a
transformer's cross-attention reads; those that are torn in their folder are made again.
"""
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from sora_jax import bridge, states, weights
from sora_jax.types import InputError

TOKENIZER = "tokenizer.json"
INSTALL = "pip install -e '.[text]'"
States = tuple[Float[np.ndarray, "b l d"], Bool[np.ndarray, "b l"]]


class Encoder(NamedTuple):
    """A model `(tokens, mask) -> states`, how captions become token numbers (of at most so many), and both hashes."""

    model: nnx.Module
    tokenize: Callable[[list[str], int], list[list[int]]]
    weights: str
    tokenizer: str


def open_encoder(folder: str | Path, tokenizer: str | Path = "") -> Encoder:
    """The encoder of a folder that `bridge.load` opens, with the tokenizer.json of the folder or of `tokenizer`.

    Raises InputError if one of them cannot be used, or if they do not belong together.
    """
    path = Path(tokenizer or folder) / TOKENIZER
    tokenize, size, digest = read_tokenizer(path)
    model = bridge.load(folder)
    vocab = getattr(model.config, "vocab", None)
    if vocab is None:
        raise InputError(f"{folder} holds no text encoder; give the folder of a T5, a UMT5 or a CLIP's text side")
    if size > vocab:
        raise InputError(f"{path} has {size} tokens, the encoder at {folder} knows {vocab}; give its own tokenizer")
    return Encoder(model, tokenize, weights.weights_hash(nnx.to_pure_dict(nnx.state(model))), digest)


def read_tokenizer(path: Path) -> tuple[Callable[[list[str], int], list[list[int]]], int, str]:
    """(tokenize, tokens it knows, hash of the file). Raises InputError, with what to install if it is that."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise InputError(f"captions need the library tokenizers: {INSTALL}") from error
    if not path.is_file():
        raise InputError(f"no {path}; give the folder that holds it, or make it: transformers' AutoTokenizer"
                         ".from_pretrained(folder).save_pretrained(folder)")
    data = path.read_bytes()
    try:
        made = Tokenizer.from_str(data.decode())
    except Exception as error:  # the library raises bare Exceptions
        raise InputError(f"{path} is no tokenizer ({error}); copy it again") from error
    made.no_padding()

    def tokenize(captions, length):
        made.enable_truncation(length)
        return [found.ids for found in made.encode_batch(captions)]

    return tokenize, made.get_vocab_size(), hashlib.sha256(data).hexdigest()[:16]


def tokens(encoder: Encoder, captions: Sequence[str],
           length: int) -> tuple[Int[np.ndarray, "b l"], Bool[np.ndarray, "b l"]]:
    """Token numbers, zeros after the last, and which are the caption's. Raises InputError for a caption without any."""
    found = encoder.tokenize(list(captions), length)
    numbers, mask = (np.zeros((len(captions), length), kind) for kind in (np.int32, bool))
    for i, row in enumerate(found):
        if not row:
            raise InputError(f"caption {i} ({captions[i]!r}) has no tokens, and its tokenizer adds none")
        numbers[i, :len(row)], mask[i, :len(row)] = row, True
    return numbers, mask


def encode(encoder: Encoder, captions: Sequence[str], length: int, cache: str | Path = "", batch: int = 8) -> States:
    """States of captions of at most `length` tokens, float32, zero where the mask is False. With a folder `cache`,
    those that lie there whole are read, the others made and kept.

    Raises InputError if the folder holds the states of another encoder.
    """
    if cache:
        kept, _ = keep(encoder, captions, length, cache, batch)
        rows = [kept(caption) for caption in captions]
        return tuple(np.stack(part) for part in zip(*rows, strict=True)) if rows else nothing(length, encoder)
    distinct, found = list(dict.fromkeys(captions)), {}
    for start in range(0, len(distinct), batch):
        part = distinct[start:start + batch]
        found |= zip(part, made(encoder, part, length, batch), strict=True)
    states, mask = nothing(length, encoder, len(captions))
    for i, caption in enumerate(captions):
        kept = len(found[caption])
        states[i, :kept], mask[i, :kept] = found[caption], True
    return states, mask


def keep(encoder: Encoder, captions: Sequence[str], length: int, folder: str | Path, batch: int = 8,
         done: Callable[[int], None] = lambda captions: None) -> tuple[states.Kept, int]:
    """The folder with the states of all these captions in it, and how many had to be made. `done` is told how many
    different captions each step dealt with. Raises InputError if the folder holds the states of another encoder."""
    kept, distinct = states.begun(folder, origin(encoder), length), list(dict.fromkeys(captions))
    missing = [caption for caption in distinct if kept.read(caption) is None]
    done(len(distinct) - len(missing))
    for start in range(0, len(missing), batch):
        part = missing[start:start + batch]
        for caption, row in zip(part, made(encoder, part, length, batch), strict=True):
            kept.write(caption, row)
        done(len(part))
    return kept, len(missing)


def nothing(length: int, encoder: Encoder, count: int = 0) -> States:
    """States of no tokens."""
    return np.zeros((count, length, encoder.model.config.width), np.float32), np.zeros((count, length), bool)


def made(encoder: Encoder, captions: list[str], length: int, batch: int) -> list[Float[np.ndarray, "_ d"]]:
    """States of the tokens of each caption; the batch is filled with the last one, so that one program serves all."""
    numbers, mask = tokens(encoder, captions + captions[-1:] * (batch - len(captions)), length)
    found = np.asarray(encode_step(encoder.model, jnp.asarray(numbers), jnp.asarray(mask)), np.float32)
    return [row[:kept.sum()] for row, kept, _ in zip(found, mask, captions, strict=False)]


@jax.jit
def encode_step(model: nnx.Module, numbers: Int[Array, "b l"], mask: Bool[Array, "b l"]) -> Float[Array, "b l d"]:
    """One batch."""
    return model(numbers, mask)


def origin(encoder: Encoder) -> states.Origin:
    """What the states of an encoder are told apart by."""
    return states.Origin(encoder.weights, encoder.tokenizer, encoder.model.config.width)
