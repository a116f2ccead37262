"""Rows of a table of weights: what goes one way comes back, stacked, side by side, and in pairs of another order."""
import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax import rows
from sora_jax.nn.rope import rotate
from sora_jax.rows import Row

ROTARY = 1e-6
SIZES = {"patch3": (("kf", 2), ("kh", 3), ("kw", 1)), "patch2": (("kh", 2), ("kw", 3)), "pairs": rows.heads(3),
         "pairs1": rows.heads(3)}
OWN = {"conv3": (2, 3, 4, 5, 6), "conv2": (2, 3, 4, 5), "point": (4, 5), "gain3": (4,), "gain2": (4,), "dense": (4, 5),
       "same": (4, 2), "row": (4, 2), "gain": (4,), "token": (4,), "patch3": (30, 4), "patch2": (30, 4),
       "pairs": (5, 12), "pairs1": (12,)}


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("turn", rows.TURNS)
def test_a_turn_comes_back(turn):
    row, own = Row("f", "o", turn, sizes=SIZES.get(turn, ())), numbers(*OWN[turn])
    foreign = rows.turned(own, row, back=True)
    assert foreign.shape == rows.shape(own.shape, row)
    np.testing.assert_array_equal(rows.turned(foreign, row), own)
    assert foreign.shape != own.shape or turn in ("same", "gain", "pairs1")


@pytest.mark.parametrize("layers, parts, width", [*itertools.product((0, 1, 3), (1, 2, 3), (1, 4))])
def test_stacks_and_parts_come_back(layers, parts, width):
    table = [row for k in range(parts)
             for row in rows.layer(f"l.{{i}}.p{k}" if layers else f"p{k}", "o", "dense", layers, (k, parts))]
    lead = (layers,) if layers else ()
    flat = {"o/kernel": numbers(*lead, 5, parts * width), "o/bias": numbers(*lead, parts * width)}
    rows.audit(table, flat)
    foreign = rows.scatter(table, flat)
    assert len(foreign) == 2 * parts * max(layers, 1)
    for row in table:
        assert all(foreign[name].shape == rows.shape(flat[row.own].shape, row) for name in rows.names(row))
    left = dict(foreign)
    again = rows.gather(table, left.pop)
    assert not left and all((again[name] == flat[name]).all() for name in flat)


def test_parts_lie_side_by_side_in_their_order():
    table = [Row("v.weight", "o", "dense", part=(1, 2)), Row("q.weight", "o", "dense", part=(0, 2))]
    q, v = numbers(2, 3), 1 + numbers(2, 3)
    np.testing.assert_array_equal(rows.gather(table, {"q.weight": q, "v.weight": v}.get)["o"],
                                  np.concatenate([q.T, v.T], 1))


def test_neighbouring_pairs_become_halves_of_a_head():
    """Neighbours rotated there are what halves rotated here are, after the turn."""
    x, weight, angle = numbers(1, 4, 5), numbers(12, 5), np.abs(numbers(1, 4, 3)[..., :2])
    row = Row("q.weight", "q", "pairs", sizes=rows.heads(3))
    there = (x @ weight.T).reshape(1, 4, 3, 2, 2)
    cos, sin = np.cos(angle)[:, :, None], np.sin(angle)[:, :, None]
    a, b = there[..., 0], there[..., 1]
    there = np.stack([a * cos - b * sin, b * cos + a * sin], -2).reshape(1, 4, 3, 4)
    here = (x @ rows.turned(weight, row)).reshape(1, 4, 3, 4)
    rotated = rotate(jnp.asarray(here), tuple(map(jnp.asarray, (np.cos(angle), np.sin(angle)))))
    np.testing.assert_allclose(rotated, there, atol=ROTARY)


@pytest.mark.parametrize("table, own, words", [
    ([Row("a", "x", "same"), Row("a", "y", "same")], "xy", "a stands in two rows"),
    ([Row("a{i}", "x", "same", 2), Row("a1", "y", "same")], "xy", "a1 stands in two rows"),
    ([Row("a", "x", "same"), Row("b", "x", "same")], "x", "x is made of the parts"),
    ([Row("a", "x", "same", part=(0, 2))], "x", "x is made of the parts"),
    ([Row("a", "x", "same", part=(0, 2)), Row("b", "x", "same", part=(1, 3))], "x", "x is made of the parts"),
    ([Row("a", "x", "same")], "xy", r"y is made of the parts \[\]"),
    ([Row("a", "x", "same")], "", "x is no leaf here"),
])
def test_a_table_with_a_mistake_is_seen(table, own, words):
    with pytest.raises(ValueError, match=words):
        rows.audit(table, own)
    with pytest.raises(ValueError, match="no 3 layers"):
        rows.shape((2, 4), Row("a{i}", "x", "same", 3))
    with pytest.raises(ValueError, match="no 3 equal parts"):
        rows.shape((2, 4), Row("a", "x", "same", part=(0, 3)))
