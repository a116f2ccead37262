"""Measures mean and standard deviation of each latent channel of an autoencoder, and stores them among its weights.

    python -m launch.normalise --run=runs/wan --config=configs/films.py
    python -m launch.normalise --run=runs/vae --config=configs/films.py --out=runs/vae-films

Training measures them at its end; this is for an autoencoder that has none, or on other clips. They come from the
training split of --config (without one: of the run's own data). The hash of the weights changes, so latents that were
encoded before are another autoencoder's; what was measured already is only replaced in a new folder, --out.
"""
import shlex
import sys
from pathlib import Path

from absl import flags

from launch import door

CONFIG = door.define_config(required=False)
RUN = flags.DEFINE_string("run", None, "autoencoder: run folder or weights file", required=True)
OUT = flags.DEFINE_string("out", "", "new folder for config and weights; empty: the weights of the run")
CLIPS = flags.DEFINE_integer("clips", 128, "clips to measure on, at most", lower_bound=1)
BATCH = flags.DEFINE_integer("batch", 8, "clips at a time on the device", lower_bound=1)


def target(run) -> Path:
    """Where the weights go. Raises InputError if that would write over statistics, or if there is no such file."""
    from sora_jax import disk, encoding
    from sora_jax.types import InputError

    if OUT.value:
        return disk.fresh(OUT.value) / "weights.safetensors"
    path = Path(RUN.value)
    path = path / "weights.safetensors" if path.is_dir() else path
    if "hash" not in run.meta or not path.is_file():
        raise InputError(f"{RUN.value} has no weights.safetensors to write over; give a new folder with --out")
    try:
        encoding.measured(run.model, RUN.value)
    except InputError:
        return path
    raise InputError(f"the latents of {RUN.value} were measured already and latents may have been encoded with it; give"
                     " a new folder with --out")


def run() -> None:
    """The door."""
    from sora_jax import build, checkpoint, disk, encoding, weights
    from sora_jax.types import InputError

    opened = checkpoint.load_for_inspection(RUN.value)
    if opened.config.stage != "vae":
        raise InputError(f"{RUN.value} is a {opened.config.stage} run; only an autoencoder has latents")
    path, data = target(opened), CONFIG.value or opened.config
    if data.data.name == "latents":
        raise InputError("data.name=latents is what comes of it; give the config of the clips, such as "
                         "--config=configs/vae.py")
    command = f"python -m launch.normalise {shlex.join(sys.argv[1:])}"
    params, meta = encoding.normalised(data, opened, CLIPS.value, BATCH.value, command)
    found = weights.save_weights(path, params, meta)
    if OUT.value:
        disk.write(path.parent / "config.json", build.to_json(opened.config).encode())
    print(f"{path}: autoencoder {found}, was {opened.meta.get('hash', 'unfinished')}; measured on "
          f"{meta['statistics']['clips']} clips: mean {params['mean'].min():.3f} to {params['mean'].max():.3f}, "
          f"standard deviation {params['std'].min():.3f} to {params['std'].max():.3f}")


if __name__ == "__main__":
    door.main(run)
