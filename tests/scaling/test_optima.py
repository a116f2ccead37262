"""The best size for each budget: planted optima come back, edges are refused, published exponents are reproduced."""
import numpy as np
import published
import pytest
from planted import HOFFMANN, flops_per_clip, loss

from sora_jax.scaling import columns, optima, straight
from sora_jax.types import InputError

BUDGETS = np.geomspace(1e18, 1e21, 7)
EXPONENT = HOFFMANN["beta"] / (HOFFMANN["alpha"] + HOFFMANN["beta"])
STAGES = {  # Porian et al. 2024, RefinedWeb: (weighted, interpolated) exponents of N_opt in compute
    ("base", "long", "kaplan", "kaplan", "train"): (0.8353, 0.8338),
    ("base", "long", "kaplan", "standard", "val"): (0.7065, 0.7009),
    ("base", "short", "kaplan", "standard", "val"): (0.6020, 0.6035),
    ("base", "short", "chinchilla", "standard", "val"): (0.5715, 0.5714),
    ("tuned", "short", "const", "standard", "val"): (0.4969, 0.4970),
}


def best_size(c):
    """N_opt of Hoffmann's law at 6 N D = c, equation 4 of the paper."""
    a, b = HOFFMANN["alpha"], HOFFMANN["beta"]
    return (a * HOFFMANN["A"] / b / HOFFMANN["B"]) ** (1 / (a + b)) * (c / 6) ** (b / (a + b))


def valleys(spread=4.0, count=9, offset=1.0):
    """(c, n, loss) of `count` sizes a budget, from 1 / spread to spread of the best one, or of `offset` times it."""
    n = best_size(BUDGETS)[:, None] * offset * np.geomspace(1 / spread, spread, count)
    c = np.repeat(BUDGETS[:, None], count, axis=1)
    return tuple(x.ravel() for x in (c, n, loss(n, c / 6 / n, HOFFMANN)))


@pytest.mark.parametrize("shape", ["akima", "parabola"])
def test_planted_optima_come_back(shape):
    found = optima.isoflop(*valleys(spread=2.0), shape)
    assert len(found.found) == len(BUDGETS) and not found.refused
    np.testing.assert_allclose([o.n for o in found.found], best_size(BUDGETS), rtol=0.02)
    assert found.line().exponent == pytest.approx(EXPONENT, abs=0.003)


def test_the_trap_an_edge_minimum_is_a_bound():
    """Sizes that all lie above the best one: naive reading takes the smallest size tried for the best size."""
    c, n, losses = valleys(spread=2.0)
    small = c < BUDGETS[3] * 1.01
    n = np.where(small, n * 8, n)  # the four smaller budgets only tried sizes that are too large
    losses = loss(n, c / 6 / n, HOFFMANN)
    naive = [n[c == b][losses[c == b].argmin()] for b in BUDGETS]
    assert abs(straight.line(BUDGETS, np.array(naive)).exponent - EXPONENT) > 0.15, "the naive slope is far off"
    found = optima.isoflop(c, n, losses)
    assert len(found.found) == 3 and len(found.refused) == 4
    assert all("smallest size" in why and "add smaller sizes" in why for why in found.refused)
    assert found.line().exponent == pytest.approx(EXPONENT, abs=0.01)
    with pytest.raises(InputError, match="0 budgets have a minimum inside"):
        optima.isoflop(c[small], n[small], losses[small]).line()


def test_the_trap_a_wide_parabola_is_biased():
    """All sizes of an asymmetric valley in one quadratic move the vertex; the five around the minimum do not."""
    c, n, losses = valleys(spread=16.0, count=15, offset=1.5)
    here = c == BUDGETS[0]
    square, slope, _ = np.polyfit(np.log(n[here]), np.log(losses[here]), 2)
    wide, best = np.exp(-slope / 2 / square), best_size(BUDGETS[0])
    local = optima.isoflop(c[here], n[here], losses[here], "parabola").found[0].n
    assert abs(np.log(wide / best)) > 4 * abs(np.log(local / best))


def test_the_envelope_finds_the_planted_exponent():
    sizes = np.geomspace(best_size(BUDGETS[0]) / 4, best_size(BUDGETS[-1]) * 4, 40)
    n, d = (x.ravel() for x in np.meshgrid(sizes, np.geomspace(1e9, 3e11, 30)))
    found = optima.envelope(6 * n * d, n, loss(n, d, HOFFMANN))
    assert found.line().exponent == pytest.approx(EXPONENT, abs=0.02)
    assert any("reach them" in why for why in found.refused)


def test_the_trap_six_n_d_misplaces_small_models():
    """Where attention costs as much as the matrices, data bought at 6 N D a clip was never bought: the size that looks
    best for a budget is the wrong one."""
    shapes = [(d, w) for w, d in ((16, 2), (32, 2), (48, 3), (64, 4), (96, 5), (128, 6), (192, 8))]
    n = np.array([12 * d * w * w for d, w in shapes], float)
    per = np.array([flops_per_clip(d, w, 320) for d, w in shapes], float)
    law = {"E": 0.2, "A": 0.05 * 1e5**0.4, "B": 0.05 * 3e4**0.4, "alpha": 0.4, "beta": 0.4}
    c = np.full(len(n), 1e13)
    exact = optima.isoflop(c, n, loss(n, c / per, law)).found[0].n
    naive = optima.isoflop(c, n, loss(n, c / (6 * n * 320), law)).found[0].n
    fine = np.geomspace(n[0], n[-1], 4000)
    cost = np.exp(np.interp(np.log(fine), np.log(n), np.log(per)))
    truth = fine[loss(fine, 1e13 / cost, law).argmin()]
    assert abs(np.log(exact / truth)) < 0.05 < 0.1 < abs(np.log(naive / truth)), (exact, naive, truth)


def test_repeats_of_a_size_count_once_and_budgets_may_be_ragged():
    c, n, losses = valleys(spread=2.0)
    ragged = c * np.exp(np.random.default_rng(0).uniform(-0.004, 0.004, len(c)))
    twice = optima.isoflop(np.r_[ragged, ragged], np.r_[n, n], np.r_[losses, losses + 0.1])
    assert len(twice.found) == len(BUDGETS)
    np.testing.assert_allclose([o.n for o in twice.found], [o.n for o in optima.isoflop(c, n, losses).found])
    few = optima.isoflop(c[:2], n[:2], losses[:2])
    assert few.refused == ("1e+18 FLOPs: 2 sizes, a minimum needs 3",)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: "-".join(stage))
def test_published_exponents_are_reproduced(stage):
    names = ("hparams", "warmup", "decay", "param_count", "val")
    rows = columns.read(published.path("porian_isoflop.csv"))
    wanted = {"dataset": ("rw",), **{name: (value,) for name, value in zip(names, stage, strict=True)}}
    rows = [row for row, kept in zip(rows, columns.where(rows, wanted, "only"), strict=True) if kept]
    weighted, basic = STAGES[stage]
    c, n, losses = (columns.numbers(rows, name) for name in ("flops", "n_params", "loss"))
    assert optima.isoflop(c, n, losses).line().exponent == pytest.approx(basic, abs=0.003)
    stored = {row["flops"]: row for row in rows if row["published_n_star_boot_median"]}
    c, n, std = (columns.numbers(list(stored.values()), name)
                 for name in ("flops", "published_n_star_boot_median", "published_log_n_star_std"))
    assert straight.line(c, n, std).exponent == pytest.approx(weighted, abs=0.002)


def test_lines():
    x = np.array([1.0, 10.0, 100.0])
    found = straight.line(x, 3 * x**-0.5)
    assert (found.exponent, found.coefficient) == pytest.approx((-0.5, 3)) and found.at(4.0) == pytest.approx(1.5)
    bent = straight.line(x, np.array([1.0, 10.0, 1.0]), np.array([1e-3, 1e-3, 1e3]))
    assert bent.exponent == pytest.approx(1.0, abs=1e-3)
    for bad in ((x[:1], x[:1], None), (x, -x, None), (x, x, 0 * x)):
        with pytest.raises(InputError):
            straight.line(*bad)
    assert straight.frontier(np.array([3.0, 1, 2, 2]), np.array([1.0, 5, 6, 4])).tolist() == [1, 3, 0]
