"""Figures: what is drawn comes from the records and the law, axes carry units, the bytes are the same every time."""
import json
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from planted import sweep

from sora_jax import study
from sora_jax.scaling import figure, fit, records
from sora_jax.scaling.law import Law
from sora_jax.types import InputError

BYTES = 400_000
DRAWN = {"law.json", "figure.svg", "figure.png", "readings.json", "readings.svg", "isoflop.json", "isoflop.svg"}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def sweep_law():
    rows = sweep(noise=0.004, seed=2, curves=True)
    kept, held = records.hold_out_largest(rows)
    return kept, held, fit.fit(records.points(kept), bootstrap=20)


@pytest.fixture
def drawn(monkeypatch):
    """The figures that would have been saved, by path."""
    figures = {}
    monkeypatch.setattr(figure, "save", lambda drawing, path: figures.update({str(path): drawing}))
    yield figures
    plt.close("all")


def axes_of(drawing, word):
    """The panel whose x label begins with `word`."""
    return next(axes for axes in drawing.axes if axes.get_xlabel().startswith(word))


def test_the_same_records_give_the_same_bytes(sweep_law, tmp_path):
    kept, held, law = sweep_law
    for ending in ("svg", "png"):
        paths = [tmp_path / name / f"figure.{ending}" for name in ("a", "b")]
        for path in paths:
            figure.curve(kept, law, path, held=held)
        assert paths[0].read_bytes() == paths[1].read_bytes()
        assert paths[0].stat().st_size < BYTES
    text = (tmp_path / "a" / "figure.svg").read_text()
    assert text.startswith("<?xml") and "dc:date" not in text
    with pytest.raises(InputError, match="figure is .svg or .png"):
        figure.curve(kept, law, tmp_path / "figure.pdf")


def test_every_axis_has_a_unit_and_every_size_a_line(sweep_law, drawn):
    kept, held, law = sweep_law
    figure.curve(kept, law, "f", held=held)
    drawing = drawn["f"]
    for axes in drawing.axes:
        assert axes.get_xlabel() and axes.get_ylabel(), axes.get_title()
    main = axes_of(drawing, "training FLOPs")
    labels = [text.get_text() for text in main.get_legend().get_texts()]
    for name in ("w32d2", "w48d3", "w64d4", "w96d5", "w128d6", "w192d8"):
        assert sum(label.startswith(name + ",") for label in labels) == 1
    assert "w256d8, 6.29M, held out" in labels and any(label.startswith("predicted for w256d8") for label in labels)
    assert main.get_xscale() == main.get_yscale() == "log"


def test_seeds_of_a_held_out_point_are_judged_by_their_mean(sweep_law, drawn):
    kept, held, law = sweep_law
    held = [row for row in held if row["annealed"]]
    top = max(held, key=lambda row: row["flops"])
    twice = [*held, {**top, "id": "again", "seed": 1, "val_loss": 1.02 * top["val_loss"]}]
    pair, = (cell for cell in records.repeats([*twice, {**top, "lr": 2 * top["lr"]}]) if len(cell) > 1)
    said, one = study.predict(law, pair), study.predict(law, [top])
    assert said["id"] == f"mean of 2 seeds of {top['model']}, {top['clips']} clips" and one["id"] == top["id"]
    assert said["observed"] == pytest.approx(1.01 * top["val_loss"])
    assert said["error"] == pytest.approx((1 + one["error"]) / 1.01 - 1)
    assert one["low"] < said["low"] < said["predicted"] < said["high"] < one["high"]
    figure.curve(kept, law, "f", held=twice)
    labels = [text.get_text() for text in axes_of(drawn["f"], "training FLOPs").get_legend().get_texts()]
    assert any(f"{100 * said['error']:+.2f} % of loss" in label and label.endswith("of the mean of 2 seeds")
               for label in labels)


def test_points_and_prediction_are_where_the_records_are(sweep_law, drawn):
    kept, held, law = sweep_law
    figure.curve(kept, law, "f", held=held)
    main = axes_of(drawn["f"], "training FLOPs")
    marks = {(x, y) for line in main.get_lines() if line.get_linestyle() == "None"
             for x, y in zip(*line.get_data(), strict=True)}
    for row in [*kept, *held]:
        assert (row["flops"], row["val_loss"]) in marks
    top = max(held, key=lambda r: r["flops"])
    prediction = law.predict(top["n_core"], top["clips"], new_run=True)
    assert any(np.isclose(x, top["flops"]) and np.isclose(y, prediction.loss) for x, y in marks)
    residuals = drawn["f"].axes[3]
    assert residuals.get_title(loc="left").startswith("residuals")
    assert len(residuals.get_lines()) == len(kept) + len(held) + 1


def test_a_size_that_is_left_out_is_drawn_with_its_name_and_without_the_law(sweep_law, drawn):
    kept, held, law = sweep_law
    left = [row for row in kept if row["model"] == "w32d2"]
    figure.curve([row for row in kept if row not in left], law, "f", held=held, left=left)
    main = axes_of(drawn["f"], "training FLOPs")
    labels = [text.get_text() for text in main.get_legend().get_texts()]
    assert any(label.startswith("w32d2,") and label.endswith(", left out") for label in labels)
    marks = {point for line in main.get_lines() if line.get_linestyle() == "None"
             for point in zip(*line.get_data(), strict=True)}
    assert {(row["flops"], row["val_loss"]) for row in left} <= marks
    assert len(drawn["f"].axes[3].get_lines()) == len(kept) - len(left) + len(held) + 1


def test_unannealed_points_are_not_drawn_and_points_need_no_law(sweep_law, drawn):
    kept, _, _ = sweep_law
    hot = [{**row, "annealed": False, "id": row["id"] + "h"} for row in kept]
    figure.curve(kept + hot, None, "f")
    main = axes_of(drawn["f"], "training FLOPs")
    assert sum(len(line.get_xdata()) for line in main.get_lines() if line.get_linestyle() == "None") == len(kept)
    with pytest.raises(InputError, match="no annealed record"):
        figure.curve(hot, None, "f")


def test_a_training_curve_takes_the_rows_of_a_run(drawn, tmp_path):
    rows = [{"step": k, "clips": 32 * k, "loss": 1 / k, "grad_norm": 0.1} for k in range(1, 50)]
    figure.training_curve([*rows, {"step": 49, "clips": 1568, "val_loss": 0.5}, {"note": "x"}], "f", title="run")
    top, bottom = drawn["f"].axes
    assert bottom.get_xlabel() == "clips seen" and top.get_ylabel() == "loss"
    assert [len(line.get_xdata()) for line in top.get_lines()] == [49, 49, 1]
    figure.training_curve([{"step": 1, "loss": float("nan")}, {"step": 2, "loss": 1.0}], "g")
    assert drawn["g"].axes[1].get_xlabel() == "updates"
    with pytest.raises(InputError, match="no metric row"):
        figure.training_curve([{"loss": 1.0}], "h")


def test_smoothing_starts_unbiased():
    assert figure._smooth(np.full(100, 3.0)) == pytest.approx(np.full(100, 3.0))
    assert np.isfinite(figure._smooth(np.array([np.nan, 1.0, np.nan, 2.0]))[1:]).all()


def test_the_door_redraws_an_experiment(tmp_path):
    def door(*arguments):
        command = [sys.executable, "-m", "launch.figure", f"--experiment={tmp_path}", *arguments]
        return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=300)

    records.write(tmp_path / "runs.jsonl", sweep(noise=0.004, seed=2))
    result = door("--bootstrap=5")
    assert result.returncode == 0 and not result.stderr, result.stderr
    assert "held out w256d8-0" in result.stdout
    assert {p.name for p in tmp_path.iterdir()} == {"runs.jsonl", *DRAWN}
    before = {name: (tmp_path / name).read_bytes() for name in DRAWN}
    for name in DRAWN:
        (tmp_path / name).unlink()
    assert door("--bootstrap=5").returncode == 0
    assert before == {name: (tmp_path / name).read_bytes() for name in DRAWN}
    law = json.loads((tmp_path / "law.json").read_text(), parse_constant=pytest.fail)
    assert Law.from_dict(law).points == 30 and len(law["held_out"]) == 5
    top = law["held_out"][0]
    assert top["id"] == "w256d8-0" and top["low"] < top["observed"] < top["high"] and abs(top["error"]) < 0.02
    result = door("--bootstrap=0", "--leave_out=w32d2")
    law = json.loads((tmp_path / "law.json").read_text())
    assert Law.from_dict(law).points == 25 and law["notes"] == ["5 points of w32d2 were left out by hand"]
    result = door("--leave_out=w33")
    assert result.returncode == 2 and "--leave_out=w33: the sizes are w128d6," in result.stderr
    (tmp_path / "runs.jsonl").unlink()
    result = door()
    assert result.returncode == 2 and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
