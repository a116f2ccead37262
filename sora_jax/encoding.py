"""A dataset to latents on disk, through an autoencoder, shard by shard.

Enters: the config of the clips and an open autoencoder. Leaves: one folder per split, addressed by the autoencoder's
hash; stopped, it goes on where it was.
"""
import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from einops import rearrange
from flax import nnx

from sora_jax import build, collate, disk, pipeline, registry, report, sources
from sora_jax.datasets import latents
from sora_jax.evals import physics
from sora_jax.scaling import identity
from sora_jax.train import evaluating
from sora_jax.types import ConfigError, InputError

FRAMED = 1024  # clips whose subjects are looked for in a frame that is narrower than the world
UNCOMPARED = ("quarantine", "limit", "size", "cache")  # fields of a dataset that change no clip
# Fields that datasets gained: at these values as if they were not there.
LATER = {"span": (0.0, 1.0), "held_span": (), "colours": (), "aspect": 0.0}


class Options(NamedTuple):
    """Where latents go and how they are cut; `command` is what would make them again."""

    out: str | Path
    batch: int = 16
    shard: int = 256
    dtype: str = "float16"
    paraphrases: int = 1
    command: str = ""


NORMALISE = "python -m launch.normalise --run={}"


def measured(vae, name: str) -> None:
    """InputError with the cure unless the autoencoder's latents have a mean and a positive standard deviation that were
    measured: fresh ones are 0 and 1 exactly."""
    mean, std = np.asarray(vae.mean[...]), np.asarray(vae.std[...])
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise InputError(f"the statistics of the latents of {name} are not finite and positive; measure them again with"
                         f" {NORMALISE.format(name)} --out=FOLDER")
    if not mean.any() and (std == 1).all():
        raise InputError(f"the mean and standard deviation of the latents of {name} were never measured; measure them "
                         f"with {NORMALISE.format(name)}")


def address(config, meta: dict, options: "Options") -> str:
    """The name of a folder of latents: the hash of the autoencoder, and one of all that is done before it (which data,
    cut how, captions as what) and after it (stored as what), whatever the split."""
    data = {key: value for key, value in described(config, sources.dataset(config)).items() if key != "split"}
    about = {"data": data, "text": [config.text.name, config.text.length],
             "dtype": options.dtype, "paraphrases": options.paraphrases}
    return f"{meta['hash']}-{identity.run_id(about)}"


def spread(size: int, count: int) -> list[int]:
    """`count` numbers of clips, evenly from the first to the last; all of them if there are no more."""
    return [int(k) for k in np.linspace(0, size - 1, min(count, size))]


def normalised(config, run, count: int, batch: int, command: str) -> tuple[dict, dict]:
    """(weights, meta) of an opened autoencoder with the statistics of its latents over `count` clips of the config's
    training split measured anew, and with where they come from. Raises InputError if they cannot be."""
    source = sources.dataset(config)
    clips = collate.draw(source, spread(len(source), count))[0]
    graph, params = nnx.split(run.model)
    mean, std = evaluating.statistics(graph, nnx.to_pure_dict(params), clips, batch)
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise InputError(f"over {len(clips)} clips a channel of the latents is constant or not finite (standard "
                         f"deviations {std.min():.3g} to {std.max():.3g}); check the autoencoder, or give more --clips")
    about = {"data": described(config, source), "clips": len(clips), "shape": list(clips.shape[1:]),
             "weights_before": run.meta.get("hash", "an unfinished run"), "command": command}
    meta = {key: value for key, value in run.meta.items() if key not in ("hash", "step")} | {
        "config": json.loads(build.to_json(run.config)), "statistics": about}
    return evaluating.with_statistics(run.params, mean, std), meta


def encode(config, vae, meta: dict, split: str, count: int, options: Options) -> None:
    """One split to its folder. Raises ConfigError or InputError before anything is compiled."""
    folder, coder = Path(options.out) / split, meta["config"]
    if config.text.name == "given":
        raise ConfigError("text.name='given' has no bytes to write beside latents; encode with text.name=text, "
                          "then the captions with python -m launch.captions")
    measured(vae, meta.get("place", meta["hash"]))
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
    if config.data.get("aspect", 0.0) and hasattr(source, "describe"):
        truths = [source.describe(i)[0] for i in range(min(count, FRAMED))]
        kept = physics.in_view(truths, config.data.width / config.data.height)
        print(f"of the subjects of {len(truths)} clips {kept['whole']:.1%} stand whole in the frame, "
              f"{kept['seen']:.1%} are seen at all; {kept['clips_whole']:.1%} of the clips show all of theirs")
    print(f"{folder}: {made.clips} clips of {'×'.join(map(str, made.meta['shape']))}, autoencoder {meta['hash']}, "
          f"mean {first.mean():.3f}, standard deviation {first.std():.3f}")


def described(config, source) -> dict:
    """Name and fields of a dataset, and a hash of the names and sizes of its files if it is of files, as they are
    compared when a folder is gone on with."""
    given = getattr(source, "config", None)
    fields = dataclasses.asdict(given) if dataclasses.is_dataclass(given) else config.data.to_dict()
    rows, root = getattr(source, "rows", ()), getattr(source, "root", None)
    paths = [root / row.name for row in rows]
    files = [[row.name, path.stat().st_size if path.is_file() else 0] for row, path in zip(rows, paths, strict=True)]
    found = {"files": hashlib.sha256(json.dumps(files).encode()).hexdigest()[:12]} if files else {}
    return {"name": config.data.name, **found, **{key: value for key, value in fields.items()
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
