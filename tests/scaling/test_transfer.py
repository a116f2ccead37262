"""The best rate of each width: found where it was planted, told apart by rule, drawn the same every time."""
import numpy as np
import pytest
from planted import record

from sora_jax.scaling import records as ledger
from sora_jax.scaling import transfer
from sora_jax.types import InputError

BASE, POWERS = 80, range(-10, -4)
BEST = {("none", 80): -6.3, ("none", 160): -7.3, ("none", 240): -7.9, ("mup", 160): -6.3, ("mup", 240): -6.2}
NEAR = 1e-6  # of a factor of two: three points of a parabola are its vertex


def rows():
    """Records whose loss is a parabola in log2 rate with its vertex at BEST."""
    return [ledger.validate(record(
        id=f"{rule}{width}{power}", width=width, lr=2.0 ** power, metrics={"base_width": BASE} if rule == "mup" else {},
        val_loss=1 + 0.01 * (power - vertex) ** 2 - width / 1e3))
        for (rule, width), vertex in BEST.items() for power in POWERS]


def test_the_vertex_is_where_it_was_planted_and_the_base_width_counts_twice():
    found = transfer.lines(rows())
    assert list(found) == ["none", "mup"] and all(list(widths) == [80, 160, 240] for widths in found.values())
    for rule, widths in found.items():
        for width, line in widths.items():
            vertex = BEST.get((rule, width), BEST["none", BASE])
            assert np.log2(transfer.best(line).vertex) == pytest.approx(vertex, abs=NEAR)
            assert transfer.best(line).rate == 2.0 ** round(vertex)
    assert transfer.moves(found["none"]) == pytest.approx({80: 0, 160: -1, 240: -1.6}, abs=NEAR)
    assert transfer.moves(found["mup"]) == pytest.approx({80: 0, 160: 0, 240: 0.1}, abs=NEAR)


def test_a_best_rate_at_the_edge_has_no_vertex():
    line = transfer.Line(np.array([1.0, 2.0, 4.0]), np.array([3.0, 2.0, 1.0]))
    assert transfer.best(line).rate == 4.0 and np.isnan(transfer.best(line).vertex)


def test_seeds_are_averaged():
    found = transfer.lines([*rows(), ledger.validate(record(id="b", width=80, lr=2.0 ** -6, val_loss=2.0))])
    assert found["none"][80].loss[4] == found["mup"][80].loss[4] == pytest.approx((2.0 + 0.9209) / 2)


def test_records_that_do_not_compare_are_refused():
    with pytest.raises(InputError, match="0 base widths"):
        transfer.lines([row for row in rows() if not row["metrics"]])
    with pytest.raises(InputError, match="clips varies"):
        transfer.lines([*rows(), ledger.validate(record(id="b", clips=2000))])


def test_the_same_records_give_the_same_picture(tmp_path):
    for name in ("a", "b"):
        transfer.draw(rows(), tmp_path / f"{name}.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
