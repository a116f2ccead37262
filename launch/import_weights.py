"""Turns another library's model into a folder of ours: a run that every other door opens, e.g. --vae=runs/wan, or an
encoder that `sora_jax.bridge.load` opens.

    python -m launch.import_weights --from=diffusers-wan-vae --dir=Wan2.1/vae --out=runs/wan
    python -m launch.import_weights --from=diffusers-wan-vae --dir=Wan2.1/vae --dry-run

The folder holds config.json and one safetensors file, or several and their index. A key that is missing, unknown or of
another shape is an error that names it; --dry-run checks all of them, prints the table of names and writes nothing.
"""
from absl import flags

from launch import door

FROM = flags.DEFINE_enum("from", None, door.LAYOUTS, "layout of the folder", required=True)
DIR = flags.DEFINE_string("dir", None, "folder to read", required=True)
OUT = flags.DEFINE_string("out", "", "new folder to write")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "print the table of names and write nothing")


def run() -> None:
    """The door."""
    import importlib
    import json

    from sora_jax import bridge, build, disk, weights
    from sora_jax.types import InputError

    if bool(OUT.value) == DRY_RUN.value:
        raise InputError(f"--out={OUT.value or None}: give the folder to write, or --dry-run without one")
    out, preset = None if DRY_RUN.value else disk.fresh(OUT.value), bridge.layout(FROM.value).PRESET
    config = importlib.import_module(f"configs.{preset}").get_config() if preset else None
    opened = bridge.open_folder(DIR.value, FROM.value, config)
    if out is None:
        print(bridge.described(opened))
        return
    if config is None:
        print(f"{out}: {opened.fields['name']} {bridge.save(out, opened)}, {len(opened.shapes)} weights")
        return
    text = build.to_json(opened.config)
    meta = {"config": json.loads(text), "imported": {"layout": FROM.value, "path": str(opened.folder)}}
    found = weights.save_weights(out / "weights.safetensors", bridge.params(opened), meta)
    disk.write(out / "config.json", text.encode())
    print(f"{out}: {opened.fields['name']} {found}, {len(opened.shapes)} weights")


if __name__ == "__main__":
    door.main(run)
