"""Trains one run: the autoencoder or a transformer, with its cooldown branches, resuming whatever the folder holds.

    python -m launch.train --config=configs/vae.py --workdir=runs/vae
    python -m launch.train --config=configs/dit.py:w64d4 --workdir=runs/w64d4 --config.train.clips=100000
"""
import math

from absl import flags
from ml_collections import ConfigDict

from launch import door

CONFIG = door.define_config()
WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run: checkpoints, records, pictures", required=True)


LARGE = 2**21  # bytes of one array: an update keeps or makes 35 to 57 of them, so more than 64 MiB


def large(config: ConfigDict) -> bool:
    """Whether an update is one of an autoencoder whose buffers glibc gives back to the kernel each time: they are tens
    of arrays as large as those of its first stage."""
    from sora_jax import build

    if config.stage != "vae":
        return False
    patch = config.vae.patch
    positions = math.prod(build.clip_shape(config)) / (patch**2 if isinstance(patch, int) else math.prod(patch))
    return 4 * config.train.batch * positions * config.vae.encoder[0] > LARGE


def run() -> None:
    """The door."""
    from sora_jax.train import loop

    if large(CONFIG.value):
        door.keep_large_memory()
    for record in loop.run(CONFIG.value, WORKDIR.value):
        print(f"{record['id']}: {record['clips']} clips, {record['flops']:.3g} FLOPs, loss {record['val_loss']:.5f}")
    print(f"weights, curve and record are in {WORKDIR.value}")


if __name__ == "__main__":
    door.main(run)
