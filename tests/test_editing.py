"""Clips edited with the committed weights: known latents to the bit, nothing told, files laid where they belong."""
import pathlib

import numpy as np
import pytest

from sora_jax import editing, pipeline, referee, tasks, video
from sora_jax.datasets import physics
from sora_jax.types import InputError

ROOT = pathlib.Path(__file__).resolve().parents[1]
MODEL = ROOT / "experiments" / "001_first_curve"
SIZE, RATIO = (17, 64, 64), (4, 8, 8)
CHEAP = {"steps": 1, "sampler": "ddim", "guidance": 1.0}


@pytest.fixture(scope="module")
def pipe():
    return pipeline.Pipeline.open(MODEL)


@pytest.fixture(scope="module")
def clip():
    return physics.source(physics.Config(families=("uniform",), split="val"))[0]


def laid(task, clip, box=None):
    return editing.lay(task, (clip.video,), tasks.given(task, SIZE, RATIO, 2, box))


def test_known_latents_are_kept_to_the_bit_in_every_task(pipe, clip):
    for task, box in (("ends", None), ("inpaint", tasks.Box(16, 16, 16, 32, 16, 0))):
        given = laid(task, clip, box)
        known = given.known[None]
        cells, shown = tasks.cells(known, RATIO), tasks.hidden(clip.video[None], known)
        z = np.asarray(pipe.latents([clip.caption], known=cells, clips=shown, **CHEAP))
        whole = cells.reshape(1, 5, 4, 2, 4, 2).all((3, 5)).repeat(2, 2).repeat(2, 3)
        want = np.asarray(pipeline.encode(pipe.vae, shown))
        assert whole.any() and not whole.all()
        np.testing.assert_array_equal(z[whole], want[whole])
        assert (np.abs(z - want).max(-1)[~whole] > 0).all(), "a token that a hole touches is drawn"
        made = editing.edit(pipe, clip.caption, given, **CHEAP)
        assert made.difference == 0 and made.clip.shape == clip.video.shape and made.sheet.ndim == 3
    frames = np.arange(5) == 0
    one, other = (pipe.latents([clip.caption], known=mask, clips=clip.video[None], **CHEAP)
                  for mask in (frames, np.broadcast_to(frames[:, None, None], (5, 8, 8))))
    np.testing.assert_array_equal(one, other)


def test_an_edit_does_not_know_what_is_not_given(pipe, clip):
    given = laid("extend_back", clip)
    other = np.where(given.known[..., None], given.clip, 255 - given.clip)
    one, two = (editing.edit(pipe, clip.caption, part, **CHEAP).clip for part in (given, given._replace(clip=other)))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("known, count, words", [
    (np.ones((5, 8), bool), 1, "known is of shape (5, 8)"), (np.ones(4, bool), 1, "have the frames (5,)"),
    (np.ones(5, bool), 2, "the given clips are of shape (1, 17, 64, 64, 3)"),
    (np.arange(5 * 64).reshape(5, 8, 8) == 9, 1, "the known cells fill no token whole"),
])
def test_a_mask_that_does_not_fit_is_refused(pipe, clip, known, count, words):
    with pytest.raises(InputError) as error:
        pipe.latents(["a red circle"] * count, known=known, clips=clip.video[None])
    assert words in str(error.value)


def test_films_and_pictures_are_laid_where_the_task_wants_them(tmp_path):
    film = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), np.uint8)
    for task, films, places in (("extend", (film,), [(slice(0, 5), slice(0, 5))]),
                                ("extend_back", (film,), [(slice(9, 17), slice(0, 8))]),
                                ("ends", (film, film[3:]), [(slice(0, 1), slice(0, 1)), (slice(13, 17), slice(3, 7))])):
        given = editing.lay(task, films, tasks.given(task, SIZE, RATIO))
        for to, from_ in places:
            np.testing.assert_array_equal(given.clip[to], film[from_])
        assert not given.whole
    longer = np.concatenate([film, film])
    whole = editing.lay("ends", (longer,), tasks.given("ends", SIZE, RATIO))
    np.testing.assert_array_equal(whole.clip, longer[:17])
    assert whole.whole
    video.write_image(tmp_path / "a.png", film[0])
    still = editing.read(tmp_path / "a.png", 3, 64, 64, 8.0)
    np.testing.assert_array_equal(still, film[[0, 0, 0]])
    video.write_mp4(tmp_path / "a.mp4", film, 8.0, scale=1, lossless=True)
    np.testing.assert_array_equal(editing.read(tmp_path / "a.mp4", 17, 64, 64, 8.0, start=0.5), film[4:])
    with pytest.raises(InputError, match="ends before --start=2"):
        editing.read(tmp_path / "a.mp4", 17, 64, 64, 8.0, start=2.0)
    for task, films, words in (("ends", (film,), "needs all 17 frames of the clip, the film has 12"),
                               ("extend", (film[:3],), "is given 5 frames, the film has 3"),
                               ("image", (film, film), "takes one film")):
        with pytest.raises(InputError, match=words):
            editing.lay(task, films, tasks.given(task, SIZE, RATIO))


def test_tasks_are_scored_beside_their_floors(pipe):
    found, sheet = referee.evaluate(pipe, ("extend", "inpaint"), 2, **CHEAP)
    for name, one in found.items():
        assert one["drawn_latent_difference"] == 0 and one["psnr_known"]["drawn"] > 25
        assert one["velocity"]["parser_floor"]["mean"] < one["velocity"]["vae_floor"]["mean"]
        assert ("told" in one["velocity"]) == (name == "inpaint"), "an encoder that is causal tells nothing of later"
    assert found["extend"]["scored_frames"] == [4, 17] and found["extend"]["given"] == 0.4
    assert found["extend"]["velocity"]["still"]["mean"] > 0.1, "standing still misses the motion"
    assert found["inpaint"]["velocity"]["still"]["lost"] == 2, "the box hides the object"
    assert sheet.shape[1] > 9 * 64
