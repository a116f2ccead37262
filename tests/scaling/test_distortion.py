"""Rate and distortion from records: the shapes become reductions and sizes, and what does not compare is refused."""
import pytest
from planted import record

from sora_jax.scaling import distortion
from sora_jax.scaling import records as ledger
from sora_jax.types import InputError


def row(latent=(5, 8, 8, 16), clip=(17, 64, 64), bits=0.5, **fields):
    metrics = {"clip_shape": list(clip), "latent_shape": list(latent), "bits_per_pixel": bits, "psnr": 31.0,
               "psnr_sampled": 30.5}
    name = "x".join(map(str, latent))
    return ledger.validate(record(id=name, metrics=metrics, **fields))


ROWS = [row(), row((5, 8, 8, 8), bits=0.3), row((5, 4, 4, 64)), row((3, 8, 8, 32)), row((9, 8, 8, 4))]


def test_shapes_become_reductions_and_sizes():
    found = distortion.points(ROWS)
    assert [(p.label, p.channels) for p in found] == [
        ("2×8×8", 4), ("4×8×8", 8), ("4×8×8", 16), ("8×8×8", 32), ("4×16×16", 64)]
    assert found[2].numbers == 5 * 8 * 8 * 16 / (3 * 17 * 64 * 64)
    text = distortion.table(found)
    assert len(text.splitlines()) == 6 and "1/41" in text


def test_what_does_not_compare_is_refused():
    with pytest.raises(InputError, match="no metrics.clip_shape"):
        distortion.points([ledger.validate(record(id="dit"))])
    with pytest.raises(InputError, match="clips of 2 sizes"):
        distortion.points([*ROWS, row((5, 16, 16, 4), clip=(17, 128, 128))])
    with pytest.raises(InputError, match="batch varies"):
        distortion.points([*ROWS, row((5, 8, 8, 4), batch=64)])


def test_the_same_records_give_the_same_picture(tmp_path):
    for name in ("a.svg", "b.svg", "a.png"):
        distortion.draw(distortion.points(ROWS), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.png").stat().st_size > 10_000
