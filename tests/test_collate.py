"""Batches from sources: windows are cut from their own clip around the action, and an index is always one window."""
import numpy as np
import pytest

from sora_jax import collate
from sora_jax.types import Clip, InputError


class Source:
    """Clip i holds the value i + 1 in a moving square on zero; `batch` is optional on a source."""

    def __init__(self, size=3, shape=(9, 32, 48, 3)):
        self.size, self.shape = size, shape

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        video = np.zeros(self.shape, np.uint8)
        for f in range(self.shape[0]):
            video[f, 4 : 12, 2 * f : 2 * f + 8] = index + 1
        return Clip(video, f"clip {index}", 8.0, {"index": index})


class Batched(Source):
    """The same clips, several at a time."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def batch(self, indices):
        self.asked.append(list(indices))
        made = [self[i] for i in indices]
        return np.stack([clip.video for clip in made]), [clip.caption for clip in made], [clip.truth for clip in made]


@pytest.mark.parametrize("kind", [Source, Batched])
def test_an_index_is_one_window_alone_or_among_others(kind):
    windows = collate.Windows(kind(), 5, 16)
    indices = [0, 7, 100, 3, 7]
    videos, captions, truths = windows.batch(indices)
    assert videos.shape == (5, 5, 16, 16, 3) and videos.dtype == np.uint8
    for i, index in enumerate(indices):
        alone = windows[index]
        np.testing.assert_array_equal(alone.video, videos[i])
        assert alone.caption == captions[i] == f"clip {index % 3}" and truths[i] == {"index": index % 3}
        assert set(np.unique(videos[i])) <= {0, index % 3 + 1}
    np.testing.assert_array_equal(videos[1], videos[4])


def test_windows_of_a_clip_differ_and_there_are_many():
    windows = collate.Windows(Source(), 5, 16, draws=64)
    assert len(windows) == 3 * 64
    same_clip = {windows[3 * k].video.tobytes() for k in range(64)}
    assert len(same_clip) > 10
    assert len(collate.Windows(Source(10**9), 5, 16)) == 64 * 10**9


def test_a_window_is_a_piece_of_the_clip():
    video = np.random.default_rng(0).integers(0, 256, (9, 32, 48, 3), np.uint8)
    found = collate.window(video, 4, 16, np.random.default_rng(1))
    places = [(t, y, x) for t in range(6) for y in range(17) for x in range(33)
              if (video[t : t + 4, y : y + 16, x : x + 16] == found).all()]
    assert len(places) == 1
    np.testing.assert_array_equal(collate.window(video, 9, 32, np.random.default_rng(1)).shape, (9, 32, 32, 3))


def test_the_action_is_preferred():
    video = np.zeros((9, 64, 64, 3), np.uint8)
    video[:, :12, :12] = 255
    shown = [collate.window(video, 9, 16, np.random.default_rng(i)).any() for i in range(300)]
    assert np.mean(shown) > 0.1, "chance alone shows it in one of thirteen"
    assert collate.window(np.zeros_like(video), 9, 16, np.random.default_rng(0)).shape == (9, 16, 16, 3)


def test_every_corner_can_be_cut():
    """Windows of one pixel are all equally busy, so each is drawn by chance."""
    video = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3, 1)
    seen = {int(collate.window(video, 1, 1, np.random.default_rng(i)).item()) for i in range(300)}
    assert seen == set(range(18))


def test_drawing_uses_what_the_source_can_do():
    source = Batched()
    drawn = collate.draw(source, [2, 0])
    assert source.asked == [[2, 0]]
    for a, b in zip(drawn, collate.draw(Source(), [2, 0]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_pixels_stay_bytes_and_carry_no_caption():
    for given in (collate.draw(Source(), [0, 1]), [Source()[0], Source()[1]]):
        batch = collate.pixels(given)
        assert batch.x.dtype == np.uint8 and batch.x.shape == (2, 9, 32, 48, 3)
        assert batch.text.shape == batch.mask.shape == (2, 1) and not batch.mask.any()


def test_latents_are_stacked_as_floats():
    items = [{"x": np.full((2, 2, 2, 4), i, np.float16), "text": np.full(6, i, np.uint8), "mask": np.arange(6) < i}
             for i in range(3)]
    batch = collate.latents(items)
    assert batch.x.shape == (3, 2, 2, 2, 4) and batch.x.dtype == np.float32
    assert batch.x[2].min() == 2 and batch.text[1, 0] == 1 and batch.mask.sum(1).tolist() == [0, 1, 2]


def test_clips_of_two_sizes_are_not_one_batch():
    small, large = Source(shape=(9, 32, 48, 3)), Source(shape=(9, 32, 64, 3))
    mixed = [small[0], small[1], large[2]._replace(truth={"path": "c.mp4"})]
    with pytest.raises(InputError, match=r"clip 2 is 9×32×64 \('c.mp4'\), clip 0 is 9×32×48; clips of one batch have"):
        collate.draw(mixed, range(3))
