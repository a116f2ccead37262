"""Encodes a dataset to latents once, for every transformer that is trained on them.

    python -m launch.encode --config=configs/vae.py --vae=runs/vae --out=runs/latents --clips=16384,512

Writes one folder per split under `--out`. Stopped, it goes on where it was; another autoencoder, dataset or size in
the same folder is an error. Clips come from `--config` (data and text sections), whatever its model is.
"""
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

from absl import flags

from launch import door

CONFIG = door.define_config()
VAE = flags.DEFINE_string("vae", "", "autoencoder: run folder or weights file; empty: the config's vae.weights")
OUT = flags.DEFINE_string("out", "runs/latents", "folder for the latents, one folder per split in it")
SPLITS = flags.DEFINE_list("splits", "train,val", "splits of the dataset to encode")
CLIPS = flags.DEFINE_list("clips", "8192,512", "clips of each split; 0: all of it")
BATCH = flags.DEFINE_integer("batch", 16, "clips at a time on the device", lower_bound=1)
SHARD = flags.DEFINE_integer("shard", 256, "clips per file, the unit that is kept when encoding stops", lower_bound=1)
PARAPHRASES = flags.DEFINE_integer("paraphrases", 1, "captions kept per clip, if it has several", lower_bound=1)
UNCOMPARED = ("quarantine", "limit", "size")  # fields of a dataset that change no clip
DTYPE = flags.DEFINE_enum("dtype", "float16", ["float16", "float32"], "of the latents on disk")


class Options(NamedTuple):
    """Where latents go and how they are cut: the flags, for callers in Python."""

    out: str | Path
    batch: int = 16
    shard: int = 256
    dtype: str = "float16"
    paraphrases: int = 1


def run() -> None:
    """The door."""
    from sora_jax.types import ConfigError, InputError

    config = CONFIG.value
    if config.data.name == "latents":
        raise ConfigError("data.name=latents is what encoding makes; give the config of the clips, such as "
                          "--config=configs/vae.py, or set --config.data.name=videos --config.data.path=FOLDER")
    counts = [int(count) if count.strip().isdecimal() else -1 for count in CLIPS.value]
    if len(counts) != len(SPLITS.value) or min(counts) < 0:
        raise ConfigError(f"--clips={','.join(CLIPS.value)} must be one whole number for each of "
                          f"--splits={','.join(SPLITS.value)}")
    from sora_jax import pipeline

    vae, meta = pipeline.autoencoder(VAE.value or config.vae.weights)
    if "hash" not in meta:
        raise InputError(f"--vae={VAE.value or config.vae.weights} is not finished, so its latents have no scale; "
                         "end it with python -m launch.train")
    options = Options(OUT.value, BATCH.value, SHARD.value, DTYPE.value, PARAPHRASES.value)
    for split, count in zip(SPLITS.value, counts, strict=True):
        encode(config, vae, meta, split, count, options)


def encode(config, vae, meta: dict, split: str, count: int, options: Options) -> None:
    """One split to its folder. Raises ConfigError or InputError before anything is compiled."""
    from sora_jax import build, disk, registry, report
    from sora_jax.datasets import latents
    from sora_jax.types import InputError

    folder, coder = Path(options.out) / split, meta["config"]
    registry.load("models", coder.vae.name).latent_shape(
        build.vae_config(coder), config.data.frames, config.data.height, config.data.width)
    source = build.dataset(config, split=split, quarantine=f"{options.out}/quarantine-{split}.jsonl")
    if not count and len(source) > 10**7:
        raise InputError(f"split {split} has {len(source)} clips; say how many with --clips")
    count = min(count or len(source), len(source))
    about = {
        "vae_hash": meta["hash"], "data": described(config, source), "split": split, "wanted": count,
        "shard": options.shard, "dtype": options.dtype, "paraphrases": options.paraphrases, "fps": config.data.fps,
        "mean": vae.mean[...].tolist(), "std": vae.std[...].tolist(),
        "command": f"python -m launch.encode {shlex.join(sys.argv[1:])}",
    }
    with disk.hold(folder), report.progress(count, f"encode {split}") as bar:
        latents.write(folder, shards(config, vae, source, count, options), about, bar.update)
    made = latents.source(latents.Config(str(folder), meta["hash"]))
    first = made.shards[0][0].astype("float32")
    print(f"{folder}: {made.clips} clips of {'×'.join(map(str, made.meta['shape']))}, autoencoder {meta['hash']}, "
          f"mean {first.mean():.3f}, standard deviation {first.std():.3f}")


def described(config, source) -> dict:
    """Name and fields of a dataset, as they are compared when a folder is gone on with."""
    import dataclasses

    given = getattr(source, "config", None)
    fields = dataclasses.asdict(given) if dataclasses.is_dataclass(given) else config.data.to_dict()
    return {"name": config.data.name, **{key: fields[key] for key in fields if key not in UNCOMPARED}}


def shards(config, vae, source, count: int, options: Options):
    """A function per shard, called only if the shard is not on disk yet."""
    import functools

    for start in range(0, count, options.shard):
        indices = range(start, min(start + options.shard, count))
        yield functools.partial(shard, config, vae, source, indices, options)


def shard(config, vae, source, indices: range, options: Options):
    """The chunk of these clips; the next batch is read while the device works. The last batch is filled, then cut."""
    import numpy as np
    from einops import rearrange

    from sora_jax import collate, pipeline, registry
    from sora_jax.datasets.latents import Chunk

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
    return Chunk(x, rearrange(text, **split), rearrange(mask, **split), captions)


def paraphrases(caption: str, truth: dict | None, count: int) -> list[str]:
    """As many captions of a clip as are kept, going round those that it has."""
    known = (truth or {}).get("captions") or [caption]
    return [known[k % len(known)] for k in range(count)]


if __name__ == "__main__":
    door.main(run)
