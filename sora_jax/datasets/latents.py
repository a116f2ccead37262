"""Latents on disk: a folder of raw `.npy` shards, read through mmap, addressed by the hash of the autoencoder.

Shard k is `x-k.npy` (`n fl hl wl z`, normalised), `text-k.npy` and `mask-k.npy` (`n v l`, v paraphrases of a caption as
bytes) and `captions-k.jsonl`. `meta.json`, written after every shard, says whose latents of what they are, and lists
size and crc32 of each file. `write` goes on where it stopped, makes again what is damaged, and adds clips to a folder
of fewer.
"""
import bisect
import io
import itertools
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from sora_jax import states
from sora_jax.types import ConfigError, InputError

FORMAT = 1
DTYPES = ("float16", "float32")
PARTS = ("x", "text", "mask")
FREE = ("command",)  # what may differ when a folder is gone on with
COMMAND = "python -m launch.encode --config=<config> --vae=<autoencoder> --out={}"


@dataclass(frozen=True)
class Config:
    """The folder; the hash of the autoencoder it must come from (empty: any); whether to read all and compare crc32;
    a folder of states that stand for the bytes of captions, and the tokens of each."""

    path: str = ""
    vae_hash: str = ""
    verify: bool = False
    states: str = ""
    length: int = 0


class Chunk(NamedTuple):
    """The clips of one shard; `captions` are the paraphrases of each clip, as many as the second axis of `text`."""

    x: Float[np.ndarray, "n fl hl wl z"]
    text: UInt8[np.ndarray, "n v l"]
    mask: Bool[np.ndarray, "n v l"]
    captions: list[list[str]]


def write(path: str | os.PathLike, chunks: Iterable[Callable[[], Chunk]], meta: dict[str, Any],
          done: Callable[[int], None] = lambda clips: None) -> None:
    """Write one shard per chunk; chunks that are whole on disk already are not computed. `done` is told of each shard.

    `meta` holds at least `vae_hash`, `data` (what was encoded) and `dtype` ("float16" or "float32"). Raises InputError
    if the folder holds something else, a latent is not finite in `dtype`, shapes differ, or the disk is full.
    """
    path = Path(path)
    if meta.get("dtype") not in DTYPES:
        raise ConfigError(f"latents cannot be written as dtype {meta.get('dtype')!r}, only as {', '.join(DTYPES)}")
    meta = json.loads(json.dumps(meta))
    try:
        path.mkdir(parents=True, exist_ok=True)
        stored = agreed(path, meta)
        for aside in path.glob(".*-[0-9]*"):  # what a killed writer left
            aside.unlink()
        shards = stored.get("shards", [])
        common = {"format": FORMAT, **{key: stored[key] for key in ("shape", "variants", "length") if key in stored}}
        k = -1
        for k, chunk in enumerate(chunks):
            if k >= len(shards) or fault(path, shards[k]["files"]):
                made = chunk()
                common |= shape_of(made, common, k)
                shards[k:k + 1] = [{"clips": len(made.x), "files": store(path, k, made, meta["dtype"])}]
                save_meta(path, {**meta, **common, "complete": False, "shards": shards})
            done(shards[k]["clips"])
        if k < 0:
            raise InputError(f"no clips to encode to {str(path)!a}")
        clips = sum(shard["clips"] for shard in shards[:k + 1])
        save_meta(path, {**meta, **common, "complete": True, "clips": clips, "shards": shards[:k + 1]})
    except OSError as error:
        raise InputError(f"cannot write latents to {str(path)!a}: {error.strerror or error}; finished shards "
                         "are kept, run the same command again") from error


def agreed(path: Path, meta: dict[str, Any]) -> dict[str, Any]:
    """What `meta.json` in the folder says, empty if there is none. Raises InputError if it is of other latents, or of
    more clips. When clips are added, a last shard that was not full is made again."""
    if not (path / "meta.json").exists():
        return {}
    stored = load_meta(path)
    if "wanted" in meta and stored.get("wanted", 0) < meta["wanted"]:
        stored["shards"] = [part for part in stored.get("shards", []) if part["clips"] == meta.get("shard")]
        stored["wanted"] = meta["wanted"]
    for key in ("vae_hash", *meta):
        have, want = stored.get(key), meta.get(key)
        if have != want and isinstance(have, dict) and isinstance(want, dict):
            part = next(name for name in {**have, **want} if have.get(name) != want.get(name))
            key, have, want = f"{key}.{part}", have.get(part), want.get(part)
        if have != want and key not in FREE:
            raise InputError(f"{str(path)!a} holds latents with {key} {have!a}, not {want!a}; choose another --out or "
                             "remove that folder")
    return stored


def shape_of(chunk: Chunk, common: dict[str, Any], k: int) -> dict[str, Any]:
    """What all shards share. Raises InputError if this chunk differs from those before it or from itself."""
    made = {"shape": list(chunk.x.shape[1:]), "variants": chunk.text.shape[1], "length": chunk.text.shape[2]}
    for key, value in made.items():
        if common.get(key, value) != value:
            raise InputError(f"shard {k} has {key} {value}, those before it {common[key]}; a folder holds one size, "
                             "encode others to another folder")
    if not len(chunk.x) == len(chunk.text) == len(chunk.mask) == len(chunk.captions):
        raise InputError(f"shard {k}: {len(chunk.x)} latents, {len(chunk.text)} texts, {len(chunk.captions)} captions")
    return made


def store(path: Path, k: int, chunk: Chunk, dtype: str) -> dict[str, list[int]]:
    """Write the files of shard k; returns [size, crc32] by name. Raises InputError for NaN or overflow."""
    with np.errstate(over="ignore"):
        x = np.asarray(chunk.x).astype(dtype)
    finite = np.isfinite(x).reshape(len(x), -1).all(1)
    if not finite.all():
        cause = "are not finite" if not np.isfinite(chunk.x).all() else f"do not fit {dtype}"
        raise InputError(f"the latents of clip {int(finite.argmin())} of shard {k} {cause}; check the autoencoder")
    lines = "".join(json.dumps(captions) + "\n" for captions in chunk.captions)
    blobs = {f"captions-{k:05}.jsonl": lines.encode()}
    for part, array in zip(PARTS, (x, chunk.text.astype(np.uint8), chunk.mask.astype(bool)), strict=True):
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
        blobs[f"{part}-{k:05}.npy"] = buffer.getvalue()
    for name, data in blobs.items():
        commit(path / name, data)
    return {name: [len(data), zlib.crc32(data)] for name, data in blobs.items()}


def commit(path: Path, data: bytes) -> None:
    """Write aside, sync, rename."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(aside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def save_meta(path: Path, meta: dict[str, Any]) -> None:
    """Replace `meta.json`."""
    commit(path / "meta.json", json.dumps(meta, indent=1).encode())


def load_meta(path: Path) -> dict[str, Any]:
    """`meta.json` of a folder of latents. Raises InputError."""
    try:
        meta = json.loads((path / "meta.json").read_text())
    except OSError as error:
        raise InputError(f"no latents in {str(path)!a} ({error.strerror}: meta.json); make them with "
                         + COMMAND.format(path.parent)) from error
    except ValueError as error:
        raise InputError(f"{str(path)!a}/meta.json is damaged; remove the folder and encode again") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT or not isinstance(meta.get("shards"), list):
        raise InputError(f"{str(path)!a}/meta.json is not of latents in format {FORMAT}; encode to another folder")
    return meta


def fault(path: Path, files: dict[str, list[int]], verify: bool = True) -> str:
    """What is wrong with the files of a shard, in words; empty if nothing. `verify` reads them all."""
    for name, (size, crc) in files.items():
        try:
            have = (path / name).stat().st_size
            if have != size:
                return f"{name} has {have} of {size} bytes"
            if verify and zlib.crc32((path / name).read_bytes()) != crc:
                return f"{name} is damaged"
        except OSError:
            return f"{name} is missing"
    return ""


class Latents:
    """A random-access source. Its length is clips times paraphrases: every pass over it shows each caption once."""

    def __init__(self, path: Path, meta: dict[str, Any], kept: states.Kept | None = None):
        self.path, self.meta, self.variants, self.kept = path, meta, meta["variants"], kept
        self.ends = list(itertools.accumulate(shard["clips"] for shard in meta["shards"]))
        self.clips = self.ends[-1]
        self.shards = [
            [np.load(path / f"{part}-{k:05}.npy", mmap_mode="r", allow_pickle=False) for part in PARTS]
            for k in range(len(self.ends))
        ]

    def __len__(self) -> int:
        return self.clips * self.variants

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Item `index`: clip `index` modulo clips, one paraphrase further at each round."""
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        return self.item(int(index) % self.clips, int(index) // self.clips)

    def place(self, clip: int) -> tuple[int, int]:
        """Shard and row of a clip."""
        k = bisect.bisect_right(self.ends, clip)
        return k, clip - (self.ends[k - 1] if k else 0)

    def item(self, clip: int, draw: int = 0) -> dict[str, np.ndarray]:
        """`x` float32 `fl hl wl z`, `text` uint8 `l` or states float32 `l d`, `mask` bool `l`; the paraphrase is
        (clip + draw) mod variants."""
        k, row = self.place(clip)
        x, text, mask = self.shards[k]
        variant = (clip + draw) % self.variants
        words = (np.array(text[row, variant]), np.array(mask[row, variant])) if self.kept is None else self.kept(
            self.captions(clip)[variant])
        return {"x": np.array(x[row], np.float32), "text": words[0], "mask": words[1]}

    def captions(self, clip: int) -> list[str]:
        """All paraphrases of a clip, as text."""
        k, row = self.place(clip)
        with open(self.path / f"captions-{k:05}.jsonl", encoding="utf-8") as file:
            return json.loads(next(itertools.islice(file, row, None)))

    def every_caption(self) -> Iterator[str]:
        """All captions of all clips, in order."""
        for k in range(len(self.shards)):
            with open(self.path / f"captions-{k:05}.jsonl", encoding="utf-8") as file:
                for line in file:
                    yield from json.loads(line)


def source(config: Config) -> Latents:
    """Open a folder of latents. Raises InputError if they are absent, unfinished, damaged or of another autoencoder, or
    if a caption has no states where they stand for it."""
    if not config.path:
        raise InputError("data.path is empty; set it to a folder of latents, made with " + COMMAND.format("<folder>"))
    path = Path(config.path).expanduser()
    meta = load_meta(path)
    command = meta.get("command") or COMMAND.format(path.parent)
    if config.vae_hash and meta.get("vae_hash") != config.vae_hash:
        raise InputError(f"the latents in {str(path)!a} are of autoencoder {meta.get('vae_hash')}, this run uses "
                         f"{config.vae_hash}; encode again to another folder with {COMMAND.format('<folder>')}")
    if not meta.get("complete") or not meta["shards"]:
        clips = sum(shard["clips"] for shard in meta["shards"])
        raise InputError(f"the encoding of {str(path)!a} stopped after {clips} clips; go on with {command}")
    for shard in meta["shards"]:
        if found := fault(path, shard["files"], config.verify):
            raise InputError(f"latents in {str(path)!a} are damaged: {found}; make it again with {command}")
    kept = states.opened(config.states, config.length) if config.states else None
    try:
        latents = Latents(path, meta, kept)
        for k, (x, text, mask) in enumerate(latents.shards):
            caption = (meta["shards"][k]["clips"], meta["variants"], meta["length"])
            if x.shape != (caption[0], *meta["shape"]) or text.shape != caption or mask.shape != caption:
                raise ValueError(f"shard {k} has other shapes than meta.json says")
    except (ValueError, KeyError, OSError) as error:
        raise InputError(f"latents in {str(path)!a} are damaged: {error}; make them again with {command}") from error
    if kept:
        kept.check(latents.every_caption(), str(path.parent), f"--latents={path.parent}")
    return latents
