"""Writes a model of this package as a folder that another library opens; the way back of import_weights.

    python -m launch.export_weights --to=diffusers-wan-vae --run=runs/wan --out=exported

The folder gets config.json and a safetensors file, here for `diffusers.AutoencoderKLWan.from_pretrained(folder)`; the
model must be of the layout's kind, here vae.name=wan_vae. --vae is another name of --run.
"""
from absl import flags

from launch import door

TO = flags.DEFINE_enum("to", None, door.LAYOUTS, "layout of the folder", required=True)
RUN = flags.DEFINE_string("run", None, "run folder, weights file, or folder that import_weights wrote", required=True)
flags.DEFINE_alias("vae", "run")
OUT = flags.DEFINE_string("out", None, "new folder to write", required=True)


def run() -> None:
    """The door."""
    from sora_jax import bridge, checkpoint, disk

    out, kind = disk.fresh(OUT.value), bridge.layout(TO.value)
    if kind.PRESET:
        found = checkpoint.load_for_inspection(RUN.value)
        fields, params = kind.from_run(found.config.copy_and_resolve_references().to_dict()), found.params
    else:
        fields, params = bridge.saved(RUN.value)
    bridge.write_folder(out, TO.value, fields, params)
    print(f"{OUT.value}: {TO.value} of the {fields['name']} at {RUN.value}")


if __name__ == "__main__":
    door.main(run)
