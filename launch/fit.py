"""Fits scaling laws to a table of runs, anybody's: CSV with a header, or JSON lines.

    python -m launch.fit --points runs.csv --params n_params --data tokens --loss val_loss --compute flops --out fit
    python -m launch.fit --points experiments/001_first_curve/runs.jsonl --params n_core --data clips --loss val_loss \\
        --compute flops --hold_out model=w160d6 --group config_hash --out fit

Writes OUT/fit.json (flat: E A alpha B beta a objective n starts_converged ..., each with its interval beside it) and
OUT/fit.svg, OUT/fit.png. Methods: parametric, isoflop, envelope, kaplan, three-term, reducible.
"""
from pathlib import Path

from absl import flags

from launch import door

POINTS = flags.DEFINE_string("points", None, "the table: .csv with a header, or .jsonl", required=True)
PARAMS = flags.DEFINE_string("params", None, "column of model size", required=True)
DATA = flags.DEFINE_string("data", None, "column of training data", required=True)
LOSS = flags.DEFINE_string("loss", None, "column of the loss", required=True)
COMPUTE = flags.DEFINE_string("compute", "", "column of training FLOPs; never guessed as 6 N D")
ONLY = flags.DEFINE_multi_string("only", [], "COLUMN=VALUE or COLUMN=VALUE,VALUE: rows to fit; may be given again")
HOLD_OUT = flags.DEFINE_multi_string("hold_out", [], "COLUMN=VALUE,...: rows that are not fitted but predicted")
GROUP = flags.DEFINE_string("group", "", "column that names the run of a row; rows of a run are resampled together")
METHOD = flags.DEFINE_string("method", "parametric", "parametric, isoflop, envelope, kaplan, three-term or reducible")
BOOTSTRAP = flags.DEFINE_integer("bootstrap", 1000, "resampled sets of runs behind the intervals", lower_bound=0)
SEED = flags.DEFINE_integer("seed", 0, "of the resampling", lower_bound=0)
OUT = flags.DEFINE_string("out", None, "folder for fit.json, fit.svg and fit.png", required=True)


def run() -> None:
    """The door."""
    from sora_jax import disk
    from sora_jax.scaling import fit_figure, methods, outcome

    table = read()
    made, law = methods.apply(table, METHOD.value, BOOTSTRAP.value, SEED.value)
    print(made)
    out = Path(OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    disk.write(out / "fit.json", outcome.text(made.to_dict()).encode())
    for ending in ("svg", "png"):
        fit_figure.draw(made, table, law, out / f"fit.{ending}")
    print(f"wrote {out / 'fit.json'}, fit.svg and fit.png")


def read():
    """The table that the flags describe."""
    import numpy as np

    from sora_jax.scaling import columns, methods
    from sora_jax.scaling.points import table
    from sora_jax.types import InputError

    if METHOD.value not in methods.NAMES:
        raise InputError(f"--method={METHOD.value}: there are {', '.join(methods.NAMES)}")
    rows = columns.read(POINTS.value)
    held = columns.conditions(HOLD_OUT.value, "hold_out")
    unseen = columns.where(rows, held, "hold_out") if held else np.zeros(len(rows), bool)
    kept = columns.where(rows, columns.conditions(ONLY.value, "only"), "only") & ~unseen
    if not kept.any():
        raise InputError("--only and --hold_out leave no row to fit")

    def part(chosen):
        some = [row for row, wanted in zip(rows, chosen, strict=True) if wanted]
        runs = [str(cell) for cell in columns.column(some, GROUP.value)] if GROUP.value else None
        made = table(*(columns.numbers(some, name) for name in (PARAMS.value, DATA.value, LOSS.value)), group=runs,
                     unit_n=PARAMS.value, unit_d=DATA.value, unit_loss=LOSS.value)
        return made, columns.numbers(some, COMPUTE.value) if COMPUTE.value else None

    points, c = part(kept)
    held_points, held_c = part(unseen) if unseen.any() else (None, None)
    return methods.Table(points, c, held_points, held_c)


if __name__ == "__main__":
    door.main(run)
