"""Captions to the states of a published text encoder, kept on disk.

Enters: the folder of an encoder with its tokenizer.json, and captions. Leaves: states `b l d` with their mask, what a
transformer's cross-attention reads. A folder of states belongs to one encoder; each caption is a file addressed by the
hash of (weights, tokenizer, caption, length), made again if it is torn.
"""
import hashlib
import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int
from safetensors import SafetensorError, safe_open
from safetensors import numpy as safetensors

from sora_jax import bridge, disk, weights
from sora_jax.types import InputError

FORMAT = 1
META, TOKENIZER = "meta.json", "tokenizer.json"
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
    folder = opened(Path(cache), encoder) if cache else None
    keys = [key(encoder, caption, length) for caption in captions]
    found = {name: read(folder / f"{name}.safetensors") for name in set(keys)} if folder else {}
    missing = {name: caption for name, caption in zip(keys, captions, strict=True) if found.get(name) is None}
    names = list(missing)
    for start in range(0, len(names), batch):
        part = names[start:start + batch]
        for name, states in zip(part, made(encoder, [missing[name] for name in part], length, batch), strict=True):
            found[name] = states
            if folder:
                write(folder / f"{name}.safetensors", states)
    width = next(iter(found.values())).shape[1] if found else 0
    states, mask = np.zeros((len(keys), length, width), np.float32), np.zeros((len(keys), length), bool)
    for i, name in enumerate(keys):
        kept = len(found[name])
        states[i, :kept], mask[i, :kept] = found[name], True
    return states, mask


def made(encoder: Encoder, captions: list[str], length: int, batch: int) -> list[Float[np.ndarray, "_ d"]]:
    """States of the tokens of each caption; the batch is filled with the last one, so that one program serves all."""
    numbers, mask = tokens(encoder, captions + captions[-1:] * (batch - len(captions)), length)
    states = np.asarray(encode_step(encoder.model, jnp.asarray(numbers), jnp.asarray(mask)), np.float32)
    return [row[:kept.sum()] for row, kept, _ in zip(states, mask, captions, strict=False)]


@jax.jit
def encode_step(model: nnx.Module, numbers: Int[Array, "b l"], mask: Bool[Array, "b l"]) -> Float[Array, "b l d"]:
    """One batch."""
    return model(numbers, mask)


def key(encoder: Encoder, caption: str, length: int) -> str:
    """The address of a caption's states: 32 hex digits of SHA-256."""
    text = json.dumps([FORMAT, encoder.weights, encoder.tokenizer, caption, length])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def opened(folder: Path, encoder: Encoder) -> Path:
    """The folder of an encoder's states, begun if there is none. Raises InputError if it is another's."""
    want = {"format": FORMAT, "weights": encoder.weights, "tokenizer": encoder.tokenizer}
    path = folder / META
    if not path.is_file():
        disk.fresh(folder).mkdir(parents=True, exist_ok=True)
        disk.write(path, json.dumps(want).encode())
        return folder
    try:
        have = dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged; remove the folder, or give another") from error
    for name, value in want.items():
        if have.get(name) != value:
            raise InputError(f"{folder} holds states of {name} {have.get(name)}, not {value}; give another folder")
    return folder


def read(path: Path) -> Float[np.ndarray, "_ d"] | None:
    """The states of a file; None if it is not there, or not what was written."""
    try:
        with safe_open(path, framework="numpy") as file:
            states, crc = file.get_tensor("states"), (file.metadata() or {}).get("crc")
    except (SafetensorError, OSError):
        return None
    return states if crc == str(zlib.crc32(states.tobytes())) else None


def write(path: Path, states: Float[np.ndarray, "_ d"]) -> None:
    """One caption's states, whole or not at all."""
    states = np.ascontiguousarray(states)
    disk.write(path, safetensors.save({"states": states}, metadata={"crc": str(zlib.crc32(states.tobytes()))}))
