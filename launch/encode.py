"""Encodes a dataset to latents once, for every transformer that is trained on them.

    python -m launch.encode --config=configs/vae.py --vae=runs/vae --out=runs/latents --clips=16384,512
    python -m launch.encode --config=configs/films.py --vae=runs/wan --clips=0,0

Writes one folder per split under `--out`, without one under runs/latents/<hash of the autoencoder>-<hash of all else
that makes the latents>. Stopped, it goes on where it was; another autoencoder, dataset or size in the same folder is an
error, and so is an autoencoder whose latents were never measured (python -m launch.normalise). Clips come from
`--config` (data and text sections), whatever its model is.
"""
import shlex
import sys

from absl import flags

from launch import door

CONFIG = door.define_config()
VAE = flags.DEFINE_string("vae", "", "autoencoder: run folder or weights file; empty: the config's vae.weights")
OUT = flags.DEFINE_string("out", "", "folder for the latents, one folder per split in it; empty: addressed by hashes")
SPLITS = flags.DEFINE_list("splits", "train,val", "splits of the dataset to encode")
CLIPS = flags.DEFINE_list("clips", "8192,512", "clips of each split; 0: all of it")
BATCH = flags.DEFINE_integer("batch", 16, "clips at a time on the device", lower_bound=1)
SHARD = flags.DEFINE_integer("shard", 256, "clips per file, the unit that is kept when encoding stops", lower_bound=1)
PARAPHRASES = flags.DEFINE_integer("paraphrases", 1, "captions kept per clip, if it has several", lower_bound=1)
DTYPE = flags.DEFINE_enum("dtype", "float16", ["float16", "float32"], "of the latents on disk")


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
    from sora_jax import encoding, pipeline

    place = VAE.value or config.vae.weights
    vae, meta = pipeline.autoencoder(place)
    if "hash" not in meta:
        raise InputError(f"--vae={place} is not finished, so its latents have no scale; "
                         "end it with python -m launch.train")
    command = f"python -m launch.encode {shlex.join(sys.argv[1:])}"
    options = encoding.Options(OUT.value, BATCH.value, SHARD.value, DTYPE.value, PARAPHRASES.value, command)
    if not OUT.value:
        options = options._replace(out=f"runs/latents/{encoding.address(config, meta, options)}")
    for split, count in zip(SPLITS.value, counts, strict=True):
        encoding.encode(config, vae, {**meta, "place": place}, split, count, options)
    print(f"train on them with --config.data.path={options.out}")


if __name__ == "__main__":
    door.main(run)
