"""Writes an autoencoder of this package as a folder that another library opens; the way back of import_weights.

    python -m launch.export_weights --to=diffusers-wan-vae --vae=runs/wan --out=exported

The folder gets config.json and diffusion_pytorch_model.safetensors, for
`diffusers.AutoencoderKLWan.from_pretrained(folder)`; the autoencoder's vae.name must be wan_vae.
"""
from absl import flags

from launch import door

TO = flags.DEFINE_enum("to", None, ["diffusers-wan-vae"], "layout of the folder", required=True)
VAE = flags.DEFINE_string("vae", None, "autoencoder: run folder or weights file", required=True)
OUT = flags.DEFINE_string("out", None, "new folder to write", required=True)


def run() -> None:
    """The door."""
    from flax import nnx

    from sora_jax import bridge, disk, pipeline

    out = disk.fresh(OUT.value)
    vae, meta = pipeline.autoencoder(VAE.value)
    bridge.write_folder(out, meta["config"], nnx.to_pure_dict(nnx.state(vae)))
    print(f"{OUT.value}: {TO.value} of the autoencoder at {VAE.value}")


if __name__ == "__main__":
    door.main(run)
