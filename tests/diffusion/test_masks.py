"""Every pattern gives away what its name says, leaves something to predict, and is drawn as often as asked."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion import masks
from sora_jax.nn.patch import positions

GRID = (5, 4, 6)
PLACES = positions(GRID)


def shaped(pattern, seed=0, grid=GRID):
    return np.asarray(masks.known(jax.random.key(seed), pattern, positions(grid))).reshape(grid)


def test_fixed_patterns():
    want = {"none": [], "first": [0], "last": [4], "ends": [0, 4]}
    for pattern, frames in want.items():
        given = shaped(pattern)
        assert given.any(axis=(1, 2)).nonzero()[0].tolist() == frames
        assert (given.all(axis=(1, 2)) == given.any(axis=(1, 2))).all()


def test_frames_are_whole_and_vary():
    counts = []
    for seed in range(40):
        given = shaped("frames", seed)
        assert (given.all(axis=(1, 2)) == given.any(axis=(1, 2))).all()
        counts.append(given[:, 0, 0].sum())
    assert 2.0 < np.mean(counts) < 3.0 and len(set(counts)) > 3


def test_box_is_one_box_in_every_frame():
    sizes = set()
    for seed in range(40):
        unknown = ~shaped("box", seed)
        assert (unknown == unknown[:1]).all()
        rows, columns = unknown[0].any(1).nonzero()[0], unknown[0].any(0).nonzero()[0]
        assert unknown[0][rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1].all()
        assert unknown[0].sum() == len(rows) * len(columns)
        sizes.add(unknown[0].sum())
    assert len(sizes) > 5 and min(sizes) < 6 < 12 < max(sizes)


@pytest.mark.parametrize("pattern", masks.PATTERNS)
@pytest.mark.parametrize("grid", [GRID, (1, 4, 4), (2, 1, 1), (1, 1, 1)])
def test_something_is_always_unknown(pattern, grid):
    assert not any(shaped(pattern, seed, grid).all() for seed in range(8))


def test_patterns_are_drawn_as_asked(key):
    probabilities = (0.4, 0.3, 0.2, 0.1, 0.0, 0.0)
    places = jnp.broadcast_to(PLACES, (2000, *PLACES.shape))
    given = np.asarray(masks.random_known(key, places, probabilities)).reshape(2000, *GRID)[:, :, 0, 0]
    kinds = {(0, 0, 0, 0, 0): 0.4, (1, 0, 0, 0, 0): 0.3, (0, 0, 0, 0, 1): 0.2, (1, 0, 0, 0, 1): 0.1}
    for pattern, share in kinds.items():
        assert (given == np.array(pattern, bool)).all(axis=1).mean() == pytest.approx(share, abs=0.04)


def test_a_mask_follows_its_tokens(key):
    order = jax.random.permutation(key, len(PLACES))
    for pattern in masks.PATTERNS:
        moved = masks.known(key, pattern, PLACES[order])
        np.testing.assert_array_equal(moved, masks.known(key, pattern, PLACES)[order])
