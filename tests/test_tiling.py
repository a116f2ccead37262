"""Tiles that overlap are the whole picture where a network sees only its neighbourhood; the seam says how nearly."""
from fractions import Fraction

import jax
import numpy as np
import pytest
from flax import nnx

from sora_jax import streaming, tiling
from sora_jax.models import video_vae
from sora_jax.types import InputError

EXACT = 1e-6
RNG = np.random.default_rng(0)
X = RNG.normal(size=(1, 2, 20, 28, 3)).astype(np.float32)


def blurred(x):
    """The mean over 3×3 cells, zeros outside."""
    wide = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    h, w = x.shape[2:4]
    return sum(wide[:, :, i : i + h, j : j + w] for i in range(3) for j in range(3)) / 9


def doubled(x):
    return x.repeat(2, 2).repeat(2, 3)


def widened(x):
    return x.repeat(2, 2).repeat(4, 3)


def halved(x):
    b, f, h, w, c = x.shape
    return x.reshape(b, f, h // 2, 2, w // 2, 2, c).mean((3, 5))


@pytest.mark.parametrize("apply, scale", [(lambda x: 2 * x, 1), (doubled, 2), (widened, (2, 4)),
                                          (halved, Fraction(1, 2))])
def test_what_sees_one_cell_has_no_seam(apply, scale):
    made = tiling.tiled(apply, X, tile=(8, 12), overlap=4, scale=scale)
    np.testing.assert_allclose(made.x, apply(X), atol=EXACT)
    assert made.seam <= EXACT


def test_here_the_seam_is_more_than_what_blending_leaves():
    made = tiling.tiled(blurred, X, tile=(8, 12), overlap=4, scale=1)
    error = np.abs(made.x - blurred(X)).max()
    assert EXACT < error < made.seam
    wider = tiling.tiled(blurred, X, tile=(12, 16), overlap=8, scale=1)
    assert np.abs(wider.x - blurred(X)).max() < error


def test_one_tile_is_the_whole():
    made = tiling.tiled(blurred, X, tile=(64, 64), overlap=8, scale=1)
    np.testing.assert_allclose(made.x, blurred(X), atol=EXACT)
    assert made.seam == 0


@pytest.mark.parametrize("tile, overlap, scale", [((8, 12), 8, 1), ((8, 12), -1, 1), ((9, 12), 4, Fraction(1, 2)),
                                                  ((8, 12), 3, Fraction(1, 2))])
def test_tiles_that_cannot_be_cut_are_refused(tile, overlap, scale):
    with pytest.raises(InputError, match="overlap"):
        tiling.tiled(halved, X, tile=tile, overlap=overlap, scale=scale)


def test_an_autoencoder_in_tiles():
    """Away from the borders of its tiles the answer is that of the whole frame; tiles and chunks go together."""
    config = video_vae.Config(patch=2, time=(2,), space=(2,), encoder=(4, 6), decoder=(6, 4), channels=3)
    vae = jax.jit(lambda: video_vae.build(config, rngs=nnx.Rngs(0)))()
    x = RNG.uniform(-1, 1, (1, 3, 64, 96, 3)).astype(np.float32)
    z = streaming.encode(vae, x)
    coded = tiling.tiled(lambda part: streaming.encode(vae, part), x, tile=(64, 64), overlap=32, scale=Fraction(1, 4))
    back = tiling.tiled(lambda part: streaming.decode(vae, part), z, tile=(16, 18), overlap=12, scale=4)
    for made, direct in ((coded, z), (back, streaming.decode(vae, z))):
        error = np.abs(made.x - direct).max((0, 1, 2, 4))
        middle = len(error) // 2
        print(f"seam {made.seam:.1e}, against untiled {error.max():.1e}, in the middle {error[middle]:.1e}")
        assert error.max() <= made.seam and error[middle] < 1e-5 < np.abs(direct).max()
