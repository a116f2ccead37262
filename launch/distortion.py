"""Redraws what autoencoders of several compressions and channels cost and give back: figure.svg and .png, and a table.

    python -m launch.distortion --experiment=007_rate_distortion
"""
from pathlib import Path

from absl import flags

from launch import door, studies

EXPERIMENT = flags.DEFINE_string("experiment", None, "folder that holds runs.jsonl, or an experiment's name or number",
                                 required=True)
OUT = flags.DEFINE_string("out", None, "folder to write to; the experiment's own if not given")


def run() -> None:
    """The door."""
    from sora_jax.scaling import distortion, records

    folder = studies.folder(EXPERIMENT.value)
    found = distortion.points(records.read(folder / "runs.jsonl"))
    print(distortion.table(found))
    out = Path(OUT.value or folder)
    out.mkdir(parents=True, exist_ok=True)
    for ending in ("svg", "png"):
        distortion.draw(found, out / f"figure.{ending}")
    print(f"wrote {out / 'figure.svg'} and figure.png")


if __name__ == "__main__":
    door.main(run)
