"""Redraws an experiment from its records: the curve and its law, with the largest size held out, and all else that the
records carry: the valleys of equal budgets, the two recipes for a budget, the error of the motion.

    python -m launch.figure --experiment=001_first_curve
    python -m launch.figure --experiment=002 --report --out=runs/002

The law is fitted to the other sizes and must predict the one it has not seen; --nohold_out fits every size.
--leave_out=w64d6 keeps a size from the fit and draws it all the same; the law says so. --report adds report.html, one
file with every picture and table in it.
"""
from pathlib import Path

from absl import flags

from launch import door, studies

EXPERIMENT = flags.DEFINE_string("experiment", None, "folder that holds runs.jsonl, or an experiment's name or number",
                                 required=True)
OUT = flags.DEFINE_string("out", None, "folder to write to; the experiment's own if not given")
FIT = flags.DEFINE_bool("fit", True, "fit a law; --nofit draws the points alone")
HOLD_OUT = flags.DEFINE_bool("hold_out", True, "keep the largest size from the fit and predict it")
LEAVE_OUT = flags.DEFINE_list("leave_out", "", "sizes that are drawn and not fitted; say why where you publish it")
SIZE = flags.DEFINE_string("n", "n_core", "field of a record that counts size")
DATA = flags.DEFINE_string("d", "clips", "field of a record that counts data")
BOOTSTRAP = flags.DEFINE_integer("bootstrap", 400, "resampled sets of runs behind the intervals", lower_bound=0)
REPORT = flags.DEFINE_bool("report", False, "also write report.html")


def run() -> None:
    """The door."""
    from sora_jax import study
    from sora_jax.scaling import figure, records
    from sora_jax.types import InputError

    folder = studies.folder(EXPERIMENT.value)
    out = Path(OUT.value or folder)
    rows = records.read(folder / "runs.jsonl")
    sizes = {row["model"] for row in rows}
    if not set(LEAVE_OUT.value) <= sizes:
        raise InputError(f"--leave_out={','.join(LEAVE_OUT.value)}: the sizes are {', '.join(sorted(sizes))}")
    left = [row for row in rows if row["model"] in LEAVE_OUT.value]
    rows = [row for row in rows if row not in left]
    kept, held = records.hold_out_largest(rows) if FIT.value and HOLD_OUT.value else (rows, [])
    if not FIT.value:
        for ending in ("svg", "png"):
            figure.curve(rows, None, out / f"figure.{ending}", left=left)
        print(f"wrote {out / 'figure.svg'} and figure.png")
        return
    parts = study.Parts(kept, held, left, n=SIZE.value, d=DATA.value, bootstrap=BOOTSTRAP.value,
                        floors=floors(folder / "evaluation" / "evaluation.json"))
    sections = study.draw(parts, out)
    for section in sections:
        print(section.text)
        print(f"wrote {', '.join(str(path) for path in section.written)}")
    if REPORT.value:
        print(f"wrote {report(folder.name, rows + left, sections, out)}")


def floors(path: Path) -> dict[str, float]:
    """Velocity errors of true clips that passed through the autoencoder, by split, if its model was evaluated."""
    import json

    found = json.loads(path.read_text()) if path.exists() else {}
    names = {"id": "velocity", "ood_speed": "velocity_ood_speed", "ood_radius": "velocity_ood_radius"}
    return {name: found[key]["vae_floor"]["mean"] for name, key in names.items() if key in found}


def report(title: str, rows: list[dict], sections: list, out: Path) -> Path:
    """One page of everything that was drawn, and the table of runs."""
    from sora_jax import page

    blocks = [(section.title, [page.Figure(section.picture), page.Pre(section.text)]) for section in sections]
    header = ("id", "model", "n_core", "clips", "flops", "val_loss", "val_loss_se", "seed", "device", "commit")
    table = page.Table(header, [[row[name] for name in header] for row in rows])
    return page.page(out / "report.html", title.replace("_", " "), [*blocks, ("Every annealed point", [table])])


if __name__ == "__main__":
    door.main(run)
