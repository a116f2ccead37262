"""States of captions on disk: what a published text encoder made of them, for a transformer that reads them.

A folder belongs to one encoder: meta.json has the hashes of its weights and of its tokenizer, and the width of a state.
Each caption is a file, addressed by the hash of (weights, tokenizer, caption, length), with a checksum.
"""
import hashlib
import json
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from safetensors import SafetensorError, safe_open
from safetensors import numpy as safetensors

from sora_jax import disk
from sora_jax.types import InputError

FORMAT = 1
META = "meta.json"
COMMAND = "python -m launch.captions --encoder=<folder> --out={} --length={}"


class Origin(NamedTuple):
    """Whose states: the hashes of an encoder's weights and of its tokenizer, and the width of a state."""

    weights: str
    tokenizer: str
    width: int

    @property
    def hash(self) -> str:
        """Both hashes as one name."""
        return f"{self.weights}-{self.tokenizer}"

    def key(self, caption: str, length: int) -> str:
        """The address of a caption's states, of at most `length` tokens: 32 hex digits of SHA-256."""
        text = json.dumps([FORMAT, self.weights, self.tokenizer, caption, length])
        return hashlib.sha256(text.encode()).hexdigest()[:32]


class Kept:
    """The states that lie in a folder, for captions of at most `length` tokens."""

    def __init__(self, folder: Path, origin: Origin, length: int):
        self.folder, self.origin, self.length = folder, origin, length

    def path(self, caption: str) -> Path:
        """The file of a caption."""
        return self.folder / f"{self.origin.key(caption, self.length)}.safetensors"

    def read(self, caption: str) -> Float[np.ndarray, "_ d"] | None:
        """The states of a caption's tokens; None if they are not there, or not what was written."""
        try:
            with safe_open(self.path(caption), framework="numpy") as file:
                states, crc = file.get_tensor("states"), (file.metadata() or {}).get("crc")
        except (SafetensorError, OSError):
            return None
        return states if crc == str(zlib.crc32(states.tobytes())) else None

    def write(self, caption: str, states: Float[np.ndarray, "_ d"]) -> None:
        """One caption's states, whole or not at all."""
        states = np.ascontiguousarray(states)
        blob = safetensors.save({"states": states}, metadata={"crc": str(zlib.crc32(states.tobytes()))})
        disk.write(self.path(caption), blob)

    def __call__(self, caption: str) -> tuple[Float[np.ndarray, "l d"], Bool[np.ndarray, " l"]]:
        """States filled up to `length` with zeros, and which are the caption's. Raises InputError if there are none."""
        found = self.read(caption)
        if found is None:
            raise InputError(f"the states of {caption!r} in {self.folder} are torn or gone; run the command that made "
                             "them again, it makes what is missing: " + COMMAND.format(self.folder, self.length))
        states, mask = np.zeros((self.length, self.origin.width), np.float32), np.arange(self.length) < len(found)
        states[:len(found)] = found
        return states, mask

    def check(self, captions: Iterable[str], where: str, cure: str) -> None:
        """InputError unless there is a file for each of these captions of `where`; `cure`: the flag that adds them."""
        there = {entry.name for entry in os.scandir(self.folder)}
        missing = [caption for caption in dict.fromkeys(captions) if self.path(caption).name not in there]
        if missing:
            command = COMMAND.format(self.folder, self.length)
            raise InputError(f"{self.folder} has no states of {len(missing)} captions of {where} in {self.length} "
                             f"tokens, such as {missing[0]!r}; add them: {command} {cure}")


def load(folder: str | Path) -> Origin:
    """Whose states lie in a folder. Raises InputError if there are none, or meta.json is damaged."""
    path = Path(folder) / META
    try:
        found = dict(json.loads(path.read_text()))
        if found.pop("format") != FORMAT:
            raise ValueError("another format")
        return Origin(**found)
    except OSError as error:
        raise InputError(f"no states of captions in {folder} ({error.strerror}: {META}); make them: "
                         + COMMAND.format(folder, "<tokens>")) from error
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is damaged, or of an earlier version; remove the folder, or give another") from error


def opened(folder: str | Path, length: int) -> Kept:
    """The states of a folder, to read. Raises InputError as `load` does."""
    return Kept(Path(folder), load(folder), length)


def begun(folder: str | Path, origin: Origin, length: int) -> Kept:
    """The states of an encoder in a folder, which is begun if there is none. Raises InputError if it is another's."""
    folder = Path(folder)
    if not (folder / META).is_file():
        disk.fresh(folder).mkdir(parents=True, exist_ok=True)
        disk.write(folder / META, json.dumps({"format": FORMAT, **origin._asdict()}).encode())
    have = load(folder)
    for name, value in origin._asdict().items():
        if getattr(have, name) != value:
            raise InputError(f"{folder} holds states of {name} {getattr(have, name)}, not {value}; give another folder")
    return Kept(folder, origin, length)
