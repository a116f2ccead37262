"""Every method on planted and published tables, one result for all of them, and the door for anybody's table."""
import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import published
import pytest
from planted import HOFFMANN, loss

from sora_jax.scaling import columns, fit_figure, methods
from sora_jax.scaling.outcome import Outcome
from sora_jax.scaling.points import table
from sora_jax.types import InputError

ROOT = Path(__file__).resolve().parents[2]
NOISE = 0.003


def planted(noise=NOISE, seed=0, groups=True) -> methods.Table:
    """Runs of twelve sizes at nine amounts of data, with their cost; the two longest of the largest size held out."""
    n, d = (x.ravel() for x in np.meshgrid(np.geomspace(5e7, 1e10, 12), np.geomspace(1e9, 4e11, 9), indexing="ij"))
    seen = loss(n, d, HOFFMANN) * np.exp(noise * np.random.default_rng(seed).normal(size=len(n)))
    held = (n == n.max()) & (d > 1e11)
    made = [table(n[rows], d[rows], seen[rows], unit_n="params", unit_d="tokens") for rows in (~held, held)]
    return methods.Table(made[0], 6 * n[~held] * d[~held], made[1], 6 * n[held] * d[held])


@pytest.fixture(scope="module")
def outcomes():
    return {name: methods.apply(planted(), name, bootstrap=60)[0] for name in methods.NAMES if name != "isoflop"}


def isoflops() -> methods.Table:
    c = np.repeat(np.geomspace(1e19, 1e22, 7), 9)
    n = (c / 6 / 20) ** 0.5 * np.tile(np.geomspace(1 / 3, 3, 9), 7)
    d = c / 6 / n
    return methods.Table(table(n, d, loss(n, d, HOFFMANN)), c)


def test_parametric(outcomes):
    made = outcomes["parametric"]
    for name in ("E", "alpha", "beta"):
        low, high = made.intervals[name]
        assert low < HOFFMANN[name] < high
    assert made.starts_converged > 0.9 * made.starts and made.objective > 0
    assert len(made.held_out) == 2 and all(abs(row["error"]) < 0.01 and row["low"] < row["observed"] < row["high"]
                                           for row in made.held_out)
    assert made.values["a"] == pytest.approx(HOFFMANN["beta"] / (HOFFMANN["alpha"] + HOFFMANN["beta"]), abs=0.05)


def test_allocation_and_the_price_of_leaving_it(outcomes):
    rows = outcomes["parametric"].allocation
    for row in rows:
        assert 6 * row["n"] * row["d"] == pytest.approx(row["c"], rel=1e-6) and row["n_low"] < row["n"] < row["n_high"]
        assert row["price_of_half"] > 0.05 and row["price_of_double"] > 0.05
    made, law = methods.apply(planted(), "parametric", bootstrap=0)
    best = rows[1]
    twice = best["n"] * 2
    d = best["c"] * (1 + made.allocation[1]["price_of_double"]) / 6 / twice
    assert law.predict(twice, d).loss == pytest.approx(made.allocation[1]["loss"], rel=1e-6)


def test_isoflop_and_envelope_give_the_exponent(outcomes):
    exponent = HOFFMANN["beta"] / (HOFFMANN["alpha"] + HOFFMANN["beta"])
    made = methods.apply(isoflops(), "isoflop", bootstrap=40)[0]
    assert made.values["a"] == pytest.approx(exponent, abs=0.02)
    assert made.values["a_parabola"] == pytest.approx(exponent, abs=0.02)
    assert made.values["a"] + made.values["b"] == pytest.approx(1, abs=1e-6) and len(made.optima) == 7
    low, high = made.intervals["a"]
    assert low <= made.values["a"] <= high
    assert outcomes["envelope"].values["a"] == pytest.approx(exponent, abs=0.08)


def test_kaplan_reads_a_straight_line(outcomes):
    """Without a floor, laws of one variable are straight lines: those of a planted surface without E."""
    n, d = (x.ravel() for x in np.meshgrid(np.geomspace(1e6, 1e9, 8), [1e30], indexing="ij"))
    bare = loss(n, d, {**HOFFMANN, "E": 0.0, "B": 0.0})
    far = loss(1e12, 1e31, {**HOFFMANN, "E": 0, "B": 0})
    rows = methods.Table(table(np.r_[n, 1e12], np.r_[d, 1e31], np.r_[bare, far]))
    made = methods.apply(rows, "kaplan", bootstrap=10)[0]
    assert made.values["alpha_N"] == pytest.approx(HOFFMANN["alpha"], rel=1e-6)
    assert made.values["N_c"] == pytest.approx(HOFFMANN["A"] ** (1 / HOFFMANN["alpha"]), rel=1e-4)
    assert made.flags == ("no FLOPs were given, so no law of compute and no N_opt",)
    floored = outcomes["kaplan"]
    assert floored.values["alpha_N"] < HOFFMANN["alpha"] / 2, "a floor flattens a law that has none"
    assert {"alpha_C", "C_c", "a"} <= set(floored.values)


def test_three_terms_find_a_third_only_where_there_is_one(outcomes):
    assert any("log C is a sum" in flag for flag in outcomes["three-term"].flags)
    rng = np.random.default_rng(0)
    n, d, c = np.exp(rng.uniform(0, 8, size=(3, 120)))
    rows = methods.Table(table(n, d, 1 + n**-0.5 + 2 * d**-0.4 + 1.5 * c**-0.3), c)
    made = methods.apply(rows, "three-term", bootstrap=30)[0]
    assert [made.values[k] for k in ("E", "A", "alpha", "B", "beta", "G", "gamma")] == pytest.approx(
        [1, 1, 0.5, 2, 0.4, 1.5, 0.3], rel=1e-2)
    assert not made.flags and made.starts_converged > 0.5 * made.starts


def test_reducible_finds_a_shared_exponent():
    n, d = (x.ravel() for x in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e8, 1e11, 6)))
    rows = methods.Table(table(n, d, 1.8 + 160 * n**-0.27 + 290 * d**-0.27))
    made = methods.apply(rows, "reducible", bootstrap=30)[0]
    assert [made.values[k] for k in ("E", "A", "B", "eta")] == pytest.approx([1.8, 160, 290, 0.27], rel=1e-5)
    assert made.values["a"] == 0.5 and made.objective < 1e-12


def gadre():
    """(rows to fit, rows to predict) of the five-run extrapolation of Gadre et al. 2024."""
    rows = [row for row in columns.read(published.path("openlm_overtraining_104.csv")) if row["train_set"] == "rpj"]
    few = {("d=96_l=8_h=4", 1), ("d=512_l=8_h=4", 1), ("d=576_l=24_h=8", 1), ("d=1024_l=24_h=8", 1),
           ("d=96_l=8_h=4", 16)}
    fitted = [row for row in rows if (row["model"], float(row["chinchilla_multiplier"])) in few]
    ahead = [row for row in rows if (row["model"], float(row["chinchilla_multiplier"])) in {("open_lm_1b", 32),
                                                                                             ("open_lm_7b", 1)}]
    return fitted, sorted(ahead, key=lambda row: float(row["n_params"]))


def test_published_extrapolation_is_reproduced_to_its_digits():
    fitted, ahead = gadre()
    parts = [table(*(columns.numbers(rows, name) for name in ("n_params", "tokens", "loss_c4_val")))
             for rows in (fitted, ahead)]
    made = methods.apply(methods.Table(parts[0], None, parts[1]), "reducible", bootstrap=0)[0]
    assert [round(100 * row["error"], 4) for row in made.held_out] == [0.7103, 0.7320]
    assert made.values["E"] == pytest.approx(1.836648, abs=1e-6)
    assert made.values["eta"] == pytest.approx(0.272851, abs=1e-6)
    assert made.values["A"] == pytest.approx(166.211, abs=1e-3)
    assert made.values["B"] * 6 ** (made.values["eta"] / 2) == pytest.approx(366.687, abs=1e-3)


@pytest.mark.parametrize("method", methods.NAMES)
def test_an_outcome_is_json_and_prints_and_draws(method, tmp_path):
    rows = isoflops() if method == "isoflop" else planted()
    made, law = methods.apply(rows, method, bootstrap=25)
    text = json.dumps(made.to_dict(), allow_nan=False)
    back = Outcome.from_dict(json.loads(text))
    assert json.dumps(back.to_dict()) == text
    assert json.loads(text)["n"] == len(rows.points.n) and str(made).startswith(f"{method}: ")
    for name in made.values:
        assert name in json.loads(text) and f"{name}_interval" in json.loads(text) and name in str(made)
    for ending in ("svg", "png"):
        fit_figure.draw(made, rows, law, tmp_path / f"a.{ending}")
        fit_figure.draw(made, rows, law, tmp_path / f"b.{ending}")
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


def test_equal_cost_needs_a_cost():
    rows = methods.Table(planted().points)
    for method in ("isoflop", "envelope", "three-term"):
        with pytest.raises(InputError, match="--compute; 6 N D is not assumed"):
            methods.apply(rows, method)
    with pytest.raises(InputError, match="no method 'chinchilla'"):
        methods.apply(rows, "chinchilla")


@pytest.fixture(scope="module")
def sheet(tmp_path_factory):
    """A table as a stranger has it."""
    path, rows = tmp_path_factory.mktemp("sheet") / "runs.csv", planted(groups=False)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["kind", "params", "tokens", "loss", "flops"])
        for part, c, kind in ((rows.points, rows.c, "small"), (rows.held, rows.held_c, "large")):
            writer.writerows(zip([kind] * len(c), part.n, part.d, part.loss, c, strict=True))
    return path


def door(*arguments):
    command = [sys.executable, "-m", "launch.fit", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_the_door(sheet, tmp_path):
    columns_ = ["--params=params", "--data=tokens", "--loss=loss"]
    out = tmp_path / "made"
    done = door(f"--points={sheet}", *columns_, "--compute=flops", "--hold_out=kind=large", f"--out={out}",
                "--bootstrap=50")
    assert done.returncode == 0, done.stderr[-2000:]
    saved = json.loads((tmp_path / "made" / "fit.json").read_text())
    assert {"E", "A", "alpha", "B", "beta", "a", "objective", "n", "starts_converged", "alpha_interval"} <= set(saved)
    assert saved["n"] == 106 and len(saved["held_out"]) == 2 and saved["starts_converged_fraction"] > 0.9
    assert (tmp_path / "made" / "fit.svg").stat().st_size > 5000 and (tmp_path / "made" / "fit.png").exists()
    assert "held out:" in done.stdout


@pytest.mark.parametrize("change, says", [
    ("--loss=los", "no column 'los'; did you mean 'loss'?"),
    ("--only=kind=medium", "--only=kind=medium: no row has it; the column holds large, small"),
    ("--only=kind", "--only=kind: write COLUMN=VALUE"),
    ("--method=hoffman", "--method=hoffman: there are parametric, isoflop"),
    ("--params=kind", "column 'kind', row 0: 'small' is not a number"),
    ("--points=nowhere.csv", "nowhere.csv: no such file"),
    ("--method=isoflop", "--compute; 6 N D is not assumed"),
])
def test_the_door_answers_mistakes_in_a_line(sheet, tmp_path, change, says):
    done = door(f"--points={sheet}", "--params=params", "--data=tokens", "--loss=loss", f"--out={tmp_path}", change)
    assert done.returncode != 0 and says in done.stderr and "Traceback" not in done.stderr, done.stderr[-500:]


def test_tables_that_are_not_tables_are_refused(tmp_path):
    for name, text, says in (("a.csv", "", "no rows"), ("b.csv", "x,y\n1\n", "b.csv:2: 1 cells under 2"),
                             ("c.csv", "x,x\n1,2\n", "twice"), ("d.jsonl", "{\n", "d.jsonl:1: not JSON"),
                             ("e.jsonl", "[1]\n", "expected an object, found list")):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=says):
            columns.read(tmp_path / name)
    (tmp_path / "f.csv").write_text("\ufeffx,y\n1,0\n2,nan\n")
    rows = columns.read(tmp_path / "f.csv")
    assert columns.numbers(rows, "x").tolist() == [1, 2]
    with pytest.raises(InputError, match="'y', row 0: 0 is not positive"):
        columns.numbers(rows, "y")
    assert columns.where(rows, {"x": ("2.0",)}, "only").tolist() == [False, True]
