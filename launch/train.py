"""Trains one run: the autoencoder or a transformer, with its cooldown branches, resuming whatever the folder holds.

    python -m launch.train --config=configs/vae.py --workdir=runs/vae
    python -m launch.train --config=configs/dit.py:w64d4 --workdir=runs/w64d4 --config.train.clips=100000
"""
from absl import flags

from launch import door

CONFIG = door.define_config()
WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run: checkpoints, records, pictures", required=True)


def run() -> None:
    """The door."""
    from sora_jax.train import loop

    for record in loop.run(CONFIG.value, WORKDIR.value):
        print(f"{record['id']}: {record['clips']} clips, {record['flops']:.3g} FLOPs, loss {record['val_loss']:.5f}")
    print(f"weights, curve and record are in {WORKDIR.value}")


if __name__ == "__main__":
    door.main(run)
