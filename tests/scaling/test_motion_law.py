"""Powers of the velocity error: planted ones come back, runs are resampled, the picture holds every record."""
import matplotlib.pyplot as plt
import numpy as np
import pytest
from planted import sweep

from sora_jax.scaling import motion
from sora_jax.types import InputError

SLOPES = {"id": -0.3, "ood_speed": -0.1, "ood_radius": -0.2}


def rows(noise=0.02):
    """A planted sweep whose records carry velocity errors that are powers of their FLOPs."""
    rng, made = np.random.default_rng(0), sweep()
    for row in made:
        row["metrics"] = {f"velocity_{name}": float(0.1 * (row["flops"] / 1e13) ** slope * np.exp(noise * rng.normal()))
                          for name, slope in SLOPES.items()}
    return made


def test_planted_powers_come_back_with_their_ratios():
    found = {power.name: power for power in motion.powers(rows(), bootstrap=100)}
    for name, slope in SLOPES.items():
        assert found[name].exponent == pytest.approx(slope, abs=0.02)
        assert found[name].low <= slope <= found[name].high
    assert found["ood_speed / id"].exponent == pytest.approx(0.2, abs=0.03) and found["ood_speed / id"].low > 0.1
    assert "C^-0.3" in str(found["id"])


def test_branches_of_one_run_are_resampled_together():
    """Five branches that share one error are one observation: taken for five, the interval is too narrow."""
    shared, rng = rows(noise=0.0), np.random.default_rng(1)
    names = sorted({row["model"] for row in shared})
    lifts = dict(zip(names, np.exp(0.3 * rng.normal(size=len(names))), strict=True))
    for row in shared:
        row["flops"] = int(1e12 * 2 ** names.index(row["model"]))
        row["metrics"]["velocity_id"] = float(lifts[row["model"]])
    alone = [{**row, "branch_of": None} for row in shared]
    together, apart = (motion.powers(table, bootstrap=200)[0] for table in (shared, alone))
    assert together.exponent == apart.exponent and together.high - together.low > 1.5 * (apart.high - apart.low)


def test_records_without_motion_are_left_out():
    made = rows()
    assert len(motion.carries(made + sweep())) == len(made)
    with pytest.raises(InputError, match="eval.velocity"):
        motion.powers(sweep())


def test_the_picture_shows_every_point_and_the_floors(monkeypatch):
    drawn = {}
    monkeypatch.setattr(motion, "save", lambda figure, path: drawn.update({path: figure}))
    made = rows()
    motion.draw(made, motion.powers(made, bootstrap=5), "f.svg", floors={"id": 0.03})
    errors = drawn["f.svg"].axes[0]
    marks = {(x, y) for line in errors.get_lines() if line.get_linestyle() == "None"
             for x, y in zip(*line.get_data(), strict=True)}
    assert {(row["flops"], row["metrics"][f"velocity_{name}"]) for row in made for name in SLOPES} <= marks
    assert any(set(line.get_ydata()) == {0.03} for line in errors.get_lines())
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in drawn["f.svg"].axes)
    plt.close("all")
