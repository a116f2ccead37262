"""Changes beside the noise of a seed, at equal FLOPs; the same records draw the same bytes."""
import numpy as np
import pytest

from sora_jax.scaling import ablation
from sora_jax.types import InputError

GROUPS = {"positions": ("none", "learned"), "objective": ("eps",)}


def row(name, loss, flops=6e12, **metrics):
    return {"id": f"id-{name}", "experiment": name, "flops": flops, "clips": 100,
            "metrics": {"matched_loss": loss, "velocity_id": 0.2, **metrics}}


def rows():
    return [row("default", 0.40), row("default-seed1", 0.404), row("default-seed2", 0.396), row("positions-none", 0.6),
            row("positions-learned", 0.39), row("objective-eps", 0.5, 6.05e12)]


def test_differences_are_to_the_mean_of_the_defaults():
    found = ablation.compare(rows(), GROUPS)
    assert found.default == pytest.approx(0.4) and found.repeats == 3
    assert found.noise == pytest.approx(np.log([0.40, 0.404, 0.396]).std(ddof=1))
    assert [(one.group, one.name) for one in found.changes] == [("positions", "none"), ("positions", "learned"),
                                                                ("objective", "eps")]
    assert [one.difference for one in found.changes] == pytest.approx([0.5, -0.025, 0.25])
    text = ablation.table(found)
    assert "+50.0%" in text and "a seed moves it by 1.00% (3 runs)" in text
    assert [one.name for one in ablation.compare(rows()[:5], GROUPS).changes] == ["none", "learned"]


def test_the_picture_is_the_same_bytes(tmp_path):
    for name in "ab":
        ablation.draw(ablation.compare(rows(), GROUPS), tmp_path / f"{name}.svg")
    ablation.draw(ablation.compare(rows()[:1] + rows()[3:], GROUPS), tmp_path / "c.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes() != (tmp_path / "c.svg").read_bytes()


@pytest.mark.parametrize("changed, message", [
    (rows()[3:], "no record of the default"), ([*rows(), row("objective-v", 0.4, 7e12)], "cost 7e.12 FLOPs"),
    ([{**row("default", 0.4), "metrics": {}}], "has no metrics.matched_loss")])
def test_what_does_not_compare_is_refused(changed, message):
    with pytest.raises(InputError, match=message):
        ablation.compare(changed, GROUPS)
