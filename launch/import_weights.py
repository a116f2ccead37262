"""Turns another library's autoencoder into a run that every other door opens, e.g. --vae=runs/wan.

    python -m launch.import_weights --from=diffusers-wan-vae --dir=Wan2.1/vae --out=runs/wan
    python -m launch.import_weights --from=diffusers-wan-vae --dir=Wan2.1/vae --dry-run

The folder holds config.json and diffusion_pytorch_model.safetensors of diffusers' AutoencoderKLWan (Wan 2.1). A key
that is missing, unknown or of another shape is an error that names it; --dry-run checks all of them, prints the table
of names and writes nothing.
"""
from absl import flags

from launch import door

FROM = flags.DEFINE_enum("from", None, ["diffusers-wan-vae"], "layout of the folder", required=True)
DIR = flags.DEFINE_string("dir", None, "folder to read", required=True)
OUT = flags.DEFINE_string("out", "", "folder of the run to write")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "print the table of names and write nothing")


def run() -> None:
    """The door."""
    import json

    from configs import wan
    from sora_jax import bridge, build, disk, weights
    from sora_jax.types import InputError

    if bool(OUT.value) == DRY_RUN.value:
        raise InputError(f"--out={OUT.value or None}: give the folder of the run, or --dry-run without one")
    out = None if DRY_RUN.value else disk.fresh(OUT.value)
    opened = bridge.open_folder(DIR.value, wan.get_config())
    if out is None:
        print(bridge.described(opened))
        return
    text = build.to_json(opened.config)
    meta = {"config": json.loads(text), "imported": {"layout": FROM.value, "path": str(opened.path)}}
    found = weights.save_weights(out / "weights.safetensors", bridge.params(opened), meta)
    disk.write(out / "config.json", text.encode())
    print(f"{out}: autoencoder {found}, {len(opened.rows)} weights")


if __name__ == "__main__":
    door.main(run)
