"""A dataset to latents on disk, through an autoencoder, shard by shard.

Enters: the config of the clips and an open autoencoder. Leaves: one folder per split, addressed by the autoencoder's
hash; stopped, it goes on where it was.
"""
import dataclasses
import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
from einops import rearrange

from sora_jax import build, collate, disk, pipeline, registry, report, sources
from sora_jax.datasets import latents
from sora_jax.types import InputError

UNCOMPARED = ("quarantine", "limit", "size", "cache")  # fields of a dataset that change no clip
LATER = {"span": (0.0, 1.0), "held_span": ()}  # fields that datasets gained: at these values as if they were not there


class Options(NamedTuple):
    """Where latents go and how they are cut; `command` is what would make them again."""

    out: str | Path
    batch: int = 16
    shard: int = 256
    dtype: str = "float16"
    paraphrases: int = 1
    command: str = ""


def encode(config, vae, meta: dict, split: str, count: int, options: Options) -> None:
    """One split to its folder. Raises ConfigError or InputError before anything is compiled."""
    folder, coder = Path(options.out) / split, meta["config"]
    registry.load("models", coder.vae.name).latent_shape(
        build.vae_config(coder), config.data.frames, config.data.height, config.data.width)
    aside = config.data.quarantine or f"{options.out}/quarantine-{split}.jsonl"
    source = sources.dataset(config, split=split, quarantine=aside)
    if not count and len(source) > 10**7:
        raise InputError(f"split {split} has {len(source)} clips; say how many with --clips")
    count = min(count or len(source), len(source))
    about = {
        "vae_hash": meta["hash"], "data": described(config, source), "split": split, "wanted": count,
        "shard": options.shard, "dtype": options.dtype, "paraphrases": options.paraphrases, "fps": config.data.fps,
        "mean": vae.mean[...].tolist(), "std": vae.std[...].tolist(), "command": options.command,
    }
    with disk.hold(folder), report.progress(count, f"encode {split}") as bar:
        latents.write(folder, shards(config, vae, source, count, options), about, bar.update)
    made = latents.source(latents.Config(str(folder), meta["hash"]))
    first = made.shards[0][0].astype("float32")
    print(f"{folder}: {made.clips} clips of {'×'.join(map(str, made.meta['shape']))}, autoencoder {meta['hash']}, "
          f"mean {first.mean():.3f}, standard deviation {first.std():.3f}")


def described(config, source) -> dict:
    """Name and fields of a dataset, as they are compared when a folder is gone on with."""
    given = getattr(source, "config", None)
    fields = dataclasses.asdict(given) if dataclasses.is_dataclass(given) else config.data.to_dict()
    return {"name": config.data.name, **{key: value for key, value in fields.items()
                                         if key not in UNCOMPARED and LATER.get(key, ...) != value}}


def shards(config, vae, source, count: int, options: Options):
    """A function per shard, called only if the shard is not on disk yet."""
    for start in range(0, count, options.shard):
        indices = range(start, min(start + options.shard, count))
        yield functools.partial(shard, config, vae, source, indices, options)


def shard(config, vae, source, indices: range, options: Options):
    """The chunk of these clips; the next batch is read while the device works. The last batch is filled, then cut."""
    made, captions = [], []
    for start in range(0, len(indices), options.batch):
        part = list(indices[start:start + options.batch])
        videos, texts, truths = collate.draw(source, part + part[-1:] * (options.batch - len(part)))
        kept = zip(texts[:len(part)], truths[:len(part)], strict=True)
        captions += [paraphrases(text, truth, options.paraphrases) for text, truth in kept]
        made.append(pipeline.encode(vae, videos)[:len(part)])
        if len(made) > 1:
            made[-2] = np.asarray(made[-2])
    flat = [text for texts in captions for text in texts]
    text, mask = registry.load("models", config.text.name).tokenize(flat, config.text.length)
    split = {"pattern": "(n v) l -> n v l", "v": options.paraphrases}
    x = np.concatenate([np.asarray(part, np.float32) for part in made])
    return latents.Chunk(x, rearrange(text, **split), rearrange(mask, **split), captions)


def paraphrases(caption: str, truth: dict | None, count: int) -> list[str]:
    """As many captions of a clip as are kept, going round those that it has."""
    known = (truth or {}).get("captions") or [caption]
    return [known[k % len(known)] for k in range(count)]
