"""An autoencoder appraised: figures of copies and of spoiled copies, with and without features, and a sheet."""
import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from flax import nnx

from sora_jax import appraise, pretrained
from sora_jax.models import features

SMALL = features.Config(stem=4, stages=((1, 3, 1, 1, 4),) + 6 * ((1, 3, 1, 2, 4),), head=4, classes=2)


class Copier(nnx.Module):
    """Pixels are their own latents; the decoder adds what it is told, in [-1, 1], at every other frame."""

    config = SimpleNamespace(ratio=(1, 1, 1))

    def __init__(self, off=0.0):
        self.off = nnx.Param(np.float32(off))

    def moments(self, x):
        return x, 0 * x - 4

    def encode(self, x):
        return x

    def decode(self, z):
        return z.at[:, 1::2].add(self.off[...])


@pytest.fixture(scope="module")
def clips():
    made = np.random.default_rng(0).integers(40, 200, (5, 4, 8, 8, 3)).astype(np.uint8)
    made[:, :, :4] = made[:, :1, :4]
    return made


@pytest.fixture(scope="module")
def network():
    return jax.jit(lambda: features.build(SMALL, rngs=nnx.Rngs(0)))()


def test_a_copy_is_perfect_and_a_spoiled_one_is_not(clips, network):
    good, back = appraise.evaluate(Copier(), clips, network, batch=2)
    np.testing.assert_array_equal(back, clips)
    bad, back = appraise.evaluate(Copier(20 / 127.5), clips, network, batch=2)
    assert json.loads(json.dumps(good)).keys() == bad.keys() == {"reconstruction", "temporal", "features", "latents",
                                                                 "spectrum"}
    assert good["reconstruction"]["clips"] == 5 and good["temporal"]["flicker"] == 0
    assert bad["temporal"]["flicker"] == pytest.approx(20, abs=1e-6) == bad["temporal"]["change_error"]
    seen, spoiled = good["features"], bad["features"]
    assert seen["distance"] == pytest.approx(0, abs=1e-6) and seen["frechet"] == pytest.approx(0, abs=1e-9)
    assert spoiled["distance"] > 1e-4 and spoiled["frechet"] > 1e-4
    assert seen["frechet_halves"] == spoiled["frechet_halves"] and "20 frames of 5 clips" in seen["recipe"]
    assert good["latents"]["dead"] == 0 and len(good["latents"]["kl"]) == 3
    np.testing.assert_allclose(good["spectrum"]["pixels_kept"]["power"], 1)
    assert bad["spectrum"]["pixels_kept"]["power"][0] > 1.05


@pytest.mark.parametrize("grey, there", [(0, []), (90, [0.0])])
def test_a_frequency_that_no_clip_has_is_not_divided_by(grey, there):
    clips = np.full((2, 3, 8, 8, 3), grey, np.uint8)
    noisy = np.random.default_rng(0).integers(0, 9, clips.shape).astype(np.uint8) + clips
    kept = appraise.latents(Copier(), clips, noisy)["spectrum"]["pixels_kept"]
    assert kept["frequency"] == there and len(kept["power"]) == len(there) and np.isfinite(kept["power"]).all()


def test_features_that_are_not_there_are_said(clips):
    found = appraise.evaluate(Copier(), clips[:1])[0]
    assert found["features"] == {"absent": f"get them: {pretrained.COMMAND}"}


def test_the_sheet_has_three_rows_a_clip(clips):
    dark = clips - np.uint8(10)
    one, two = (appraise.sheet(clips[:n], dark[:n]) for n in (1, 2))
    assert one.shape[1] == two.shape[1] and one.shape[0] < two.shape[0]
    assert (one == 128 - 10 * appraise.GAIN).all(-1).sum() >= 4 * 8 * 8, "the difference, around grey"


def test_films_are_scored_one_by_one(clips):
    dark = clips.copy()
    dark[3:] -= 10
    found = appraise.by_film(clips, dark, ["a", "b", "a", "c", "c"])
    assert [(name, film["clips"]) for name, film in found.items()] == [("a", 2), ("b", 1), ("c", 2)]
    assert found["c"]["psnr"] == pytest.approx(20 * np.log10(255 / 10)) and found["a"]["ssim"] == pytest.approx(1)
