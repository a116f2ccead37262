"""Redraws an experiment from its records: figure.svg, figure.png and law.json, with the largest size held out.

    python -m launch.figure --experiment experiments/001_first_curve

The law is fitted to the other sizes and must predict the one it has not seen; --nohold_out fits every size.
--leave_out=w64d6 keeps a size from the fit and draws it all the same; the law says so.
"""
from pathlib import Path

from absl import flags

from launch import door

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENT = flags.DEFINE_string("experiment", None, "folder that holds runs.jsonl, or its name under experiments/",
                                 required=True)
OUT = flags.DEFINE_string("out", None, "folder to write to; the experiment's own if not given")
FIT = flags.DEFINE_bool("fit", True, "fit a law; --nofit draws the points alone")
HOLD_OUT = flags.DEFINE_bool("hold_out", True, "keep the largest size from the fit and predict it")
LEAVE_OUT = flags.DEFINE_list("leave_out", "", "sizes that are drawn and not fitted; say why where you publish it")
SIZE = flags.DEFINE_string("n", "n_core", "field of a record that counts size")
DATA = flags.DEFINE_string("d", "clips", "field of a record that counts data")
BOOTSTRAP = flags.DEFINE_integer("bootstrap", 400, "resampled sets of runs behind the intervals", lower_bound=0)


def run() -> None:
    """The door."""
    from sora_jax.scaling import figure, records
    from sora_jax.types import InputError

    folder = Path(EXPERIMENT.value)
    folder = folder if folder.exists() else ROOT / "experiments" / folder
    out = Path(OUT.value or folder)
    rows = records.read(folder / "runs.jsonl")
    sizes = {row["model"] for row in rows}
    if not set(LEAVE_OUT.value) <= sizes:
        raise InputError(f"--leave_out={','.join(LEAVE_OUT.value)}: the sizes are {', '.join(sorted(sizes))}")
    out.mkdir(parents=True, exist_ok=True)
    left = [row for row in rows if row["model"] in LEAVE_OUT.value]
    rows = [row for row in rows if row not in left]
    kept, held = records.hold_out_largest(rows) if FIT.value and HOLD_OUT.value else (rows, [])
    law = write_law(kept, held, left, out) if FIT.value else None
    for ending in ("svg", "png"):
        figure.curve(kept, law, out / f"figure.{ending}", held=held, left=left)
        print(f"wrote {out / f'figure.{ending}'}")


def write_law(kept: list[dict], held: list[dict], left: list[dict], out: Path):
    """Fits the law, prints it with what it says of the held-out run, and writes law.json."""
    import dataclasses
    import json

    from sora_jax import disk
    from sora_jax.scaling import fit, records

    law = fit.fit(records.points(kept, n=SIZE.value, d=DATA.value), bootstrap=BOOTSTRAP.value)
    if left:
        names = ", ".join(sorted({row["model"] for row in left}))
        law = dataclasses.replace(law, notes=(*law.notes, f"{len(left)} points of {names} were left out by hand"))
    print(law)
    sigma, freedom = records.seed_noise(kept + held)
    predictions = [predict(law, row) for row in held if row["annealed"]]
    for row in predictions:
        print("held out {id}: predicted {predicted:.5g} ({low:.5g} to {high:.5g}), observed {observed:.5g}, off by "
              "{error:+.2%} of loss, {reducible_error:+.1%} of reducible loss".format(**row))
    noise = {"sigma": sigma if freedom else None, "degrees_of_freedom": freedom}
    print(f"seed noise of log loss: {sigma:.3g} from {freedom} repeats" if freedom else "seed noise: no repeated run")
    saved = _plain({**law.to_dict(), "held_out": predictions, "seed_noise": noise})
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in saved.items())
    disk.write(out / "law.json", f"{{\n{lines}\n}}\n".encode())
    print(f"wrote {out / 'law.json'}")
    return law


def predict(law, row: dict) -> dict:
    """The law against one record that it has not seen; the interval is that of one more run."""
    n, d, observed = row[law.unit_n], row[law.unit_d], row[law.unit_loss]
    loss, low, high = (float(value) for value in law.predict(n, d, new_run=True))
    return {"id": row["id"], "n": n, "d": d, "predicted": loss, "low": low, "high": high, "observed": observed,
            "error": loss / observed - 1, "reducible_error": float(law.reducible_error(n, d, observed))}


def _plain(value):
    """JSON has no nan: an interval that was not computed is null."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value


if __name__ == "__main__":
    door.main(run)
