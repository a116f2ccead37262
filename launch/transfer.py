"""Redraws how the best learning rate moves with the width, from an experiment's records: figure.svg, and a table.

    python -m launch.transfer --experiment=005_width_transfer

Its runs differ in width, in optimizer.lr and in optimizer.widths; those of the base width count for both rules.
"""
from pathlib import Path

from absl import flags

from launch import door, studies

EXPERIMENT = flags.DEFINE_string("experiment", None, "folder that holds runs.jsonl, or an experiment's name or number",
                                 required=True)
OUT = flags.DEFINE_string("out", None, "folder to write to; the experiment's own if not given")


def run() -> None:
    """The door."""
    from sora_jax.scaling import records, transfer

    folder = studies.folder(EXPERIMENT.value)
    rows = records.read(folder / "runs.jsonl")
    found = transfer.lines(rows)
    print(f"{'rule':6}{'width':>7}{'best rate':>12}{'loss':>10}{'vertex':>10}{'moved, factors of two':>24}")
    for rule, widths in found.items():
        moved = transfer.moves(widths)
        for width, line in widths.items():
            top = transfer.best(line)
            print(f"{rule:6}{width:7}{top.rate:12.3g}{top.loss:10.4f}{top.vertex:10.3g}{moved[width]:+24.2f}")
    path = Path(OUT.value or folder) / "figure.svg"
    transfer.draw(rows, path)
    print(f"wrote {path}")


if __name__ == "__main__":
    door.main(run)
