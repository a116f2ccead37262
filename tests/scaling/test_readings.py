"""Two recipes for a budget: planted sweeps in which one of them is right, the price of the other, and the picture."""
import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
from planted import loss

from sora_jax.scaling import fit, methods, readings, readings_figure
from sora_jax.scaling.points import table
from sora_jax.types import InputError

NOISE, NEAR = 0.002, 0.08


def law_of(alpha, beta):
    """Both terms fall equally fast at a million parameters and 30,000 clips."""
    return {"E": 0.2, "A": 0.04 / alpha * 1e6**alpha, "B": 0.04 / beta * 3e4**beta, "alpha": alpha, "beta": beta}


def planted(law) -> methods.Table:
    """Eleven sizes, each a run through nine budgets, at a cost proportional to N D."""
    n, c = (x.ravel() for x in np.meshgrid(np.geomspace(5e4, 2e7, 11), np.geomspace(1e12, 1e14, 9), indexing="ij"))
    d = c / 480 / n
    seen = loss(n, d, law) * np.exp(NOISE * np.random.default_rng(0).normal(size=len(n)))
    return methods.Table(table(n, d, seen, group=[f"{size:.3g}" for size in n]), c)


@pytest.fixture(scope="module", params=[(0.4, 0.4, 0.5), (0.2, 0.54, 0.73)], ids=["both", "large"])
def case(request):
    alpha, beta, truth = request.param
    sheet = planted(law_of(alpha, beta))
    made = fit.fit(sheet.points, bootstrap=60)
    return sheet, made, readings.read(sheet, made, bootstrap=60), truth


def test_the_planted_recipe_is_allowed_and_the_other_is_not(case):
    _, _, found, truth = case
    other = 0.5 + 0.73 - truth
    by = {estimate.method: estimate for estimate in found.estimates}
    assert set(by) == {"parametric", "isoflop", "envelope", "kaplan"}
    assert all(estimate.a == pytest.approx(truth, abs=NEAR) for estimate in found.estimates)
    assert by["parametric"].allows(truth) and not by["parametric"].allows(other)


def test_the_wrong_recipe_has_a_price_and_the_right_one_almost_none(case):
    _, _, found, truth = case
    right, wrong = sorted(found.price, key=lambda name: abs(readings.RECIPES[name] - truth))
    assert abs(found.price[right]) < 0.1 < found.price[wrong]


def test_the_verdict_says_no_more_than_the_intervals(case):
    _, _, found, _ = case
    text = found.verdict()
    assert "inside the intervals of" in text and all(name in text for name in readings.RECIPES)
    blind = readings.Readings((readings.Estimate("parametric", 0.5, np.nan, np.nan),), (1.0, 2.0), found.price)
    assert "no interval to judge it by" in blind.verdict() and "inside" not in blind.verdict()
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["verdict"] == text


def test_the_picture_has_both_paths_through_one_point(case, monkeypatch):
    sheet, law, found, _ = case
    drawn = {}
    monkeypatch.setattr(readings_figure, "save", lambda figure, path: drawn.update({path: figure}))
    readings_figure.draw(found, sheet, law, "f.svg")
    left, right = drawn["f.svg"].axes
    lines = {line.get_label(): line.get_data() for line in left.get_lines()}
    start, size = readings.anchor(sheet, law)
    for name, a in readings.RECIPES.items():
        n, c = lines[f"{name}, a = {a}"]
        np.testing.assert_allclose(np.log(n / size), a * np.log(c / start), atol=1e-9)
    assert {"runs", *readings.RECIPES} <= {line.get_label() for line in right.get_lines()}
    plt.close("all")


def test_recipes_need_a_cost():
    sheet = planted(law_of(0.4, 0.4))
    with pytest.raises(InputError, match="--compute"):
        readings.read(methods.Table(sheet.points), fit.fit(sheet.points, bootstrap=0))
