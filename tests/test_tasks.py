"""Tasks give what their names say, a cell is known only if all of its pixels are, and nothing hidden shows through."""
import numpy as np
import pytest

from sora_jax import tasks
from sora_jax.types import InputError

RATIO, SIZE = (4, 8, 8), (17, 32, 48)
BOX = tasks.Box(3, 9, 10, 8)


def frames(task, **options):
    return tasks.given(task, SIZE, RATIO, **options).all((1, 2)).nonzero()[0].tolist()


def test_tasks_of_whole_frames():
    assert frames("text") == [] and frames("image") == [0] and frames("ends") == [0, 13, 14, 15, 16]
    assert frames("extend") == list(range(5)) and frames("extend_back") == list(range(9, 17))
    assert frames("join", latents=1) == frames("ends") and frames("join") == [*range(5), *range(9, 17)]
    for task in set(tasks.TASKS) - {"inpaint"}:
        known = tasks.given(task, SIZE, RATIO)
        assert (known.any((1, 2)) == known.all((1, 2))).all()
        cells = tasks.cells(known, RATIO)
        assert cells.shape == (5, 4, 6)
        assert cells.any((1, 2)).sum() == (cells.all((1, 2))).sum() == {"text": 0, "image": 1, "join": 4}.get(task, 2)


def test_a_cell_that_a_hole_touches_is_unknown():
    known = tasks.given("inpaint", SIZE, RATIO, box=BOX)
    assert (~known).sum() == 17 * 10 * 8
    want = np.ones((5, 4, 6), bool)
    want[:, 0:2, 1:3] = False  # rows 3 to 12 touch cells 0 and 1, columns 9 to 16 cells 1 and 2
    np.testing.assert_array_equal(tasks.cells(known, RATIO), want)


def test_a_box_that_moves_is_at_its_ends_when_they_come():
    moved = ~tasks.given("inpaint", SIZE, RATIO, box=tasks.Box(0, 0, 8, 8, 16, 32))
    for frame, rows, columns in ((0, (0, 8), (0, 8)), (8, (8, 16), (16, 24)), (16, (16, 24), (32, 40))):
        want = np.zeros(SIZE[1:], bool)
        want[slice(*rows), slice(*columns)] = True
        np.testing.assert_array_equal(moved[frame], want)
    unknown = ~tasks.cells(~moved, RATIO)
    assert unknown[0].sum() == 1 and unknown[1].sum() > 2, "four frames of a moving box touch more than one"


@pytest.mark.parametrize("ratio", [(1, 1, 1), (2, 4, 8), (4, 8, 8)])
@pytest.mark.parametrize("seed", range(5))
def test_cells_are_the_minimum_of_their_pixels(seed, ratio):
    rng = np.random.default_rng(seed)
    shape = (1 + 2 * ratio[0], 2 * ratio[1], 3 * ratio[2])
    pixels = rng.random(shape) > 0.5 / np.prod(ratio)
    cells = tasks.cells(pixels, ratio)
    for place in np.ndindex(cells.shape):
        start = 0 if place[0] == 0 else 1 + ratio[0] * (place[0] - 1)
        stop = 1 + ratio[0] * place[0]
        inside = pixels[start:stop, ratio[1] * place[1]:ratio[1] * (place[1] + 1),
                        ratio[2] * place[2]:ratio[2] * (place[2] + 1)]
        assert cells[place] == inside.all()


@pytest.mark.parametrize("task", tasks.TASKS)
def test_what_is_hidden_has_no_influence(task):
    rng = np.random.default_rng(0)
    known = tasks.given(task, SIZE, RATIO, 2, BOX if task == "inpaint" else None)[None]
    one, other = rng.integers(0, 256, (2, 1, *SIZE, 3), np.uint8)
    other = np.where(known[..., None], one, other)
    shown = tasks.hidden(one, known)
    np.testing.assert_array_equal(shown, tasks.hidden(other, known))
    np.testing.assert_array_equal(shown[known], one[known])


def test_frames_not_given_hold_the_nearest_and_holes_the_mean():
    clips = np.broadcast_to(np.arange(17, dtype=np.uint8)[None, :, None, None, None], (1, *SIZE, 3)).copy()
    ends = tasks.hidden(clips, tasks.given("ends", SIZE, RATIO)[None])[0, :, 0, 0, 0]
    assert ends.tolist() == [0] * 7 + [13] * 6 + [13, 14, 15, 16]
    assert (tasks.hidden(clips, tasks.given("text", SIZE, RATIO)[None]) == tasks.GREY).all()
    np.testing.assert_array_equal(tasks.hidden(clips, tasks.given("inpaint", SIZE, RATIO, box=BOX)[None]), clips)


def test_a_line_runs_around_what_is_given():
    clips = np.zeros((1, *SIZE, 3), np.uint8)
    known = tasks.given("inpaint", SIZE, RATIO, box=BOX)[None]
    lined = (tasks.framed(clips, known) != 0).any(-1)[0, 0]
    want = np.zeros(SIZE[1:], bool)
    want[2:14, 8:18] = want[0] = want[-1] = want[:, 0] = want[:, -1] = True
    want[3:13, 9:17] = False
    np.testing.assert_array_equal(lined, want)
    assert not tasks.framed(clips, np.zeros_like(known)).any()


@pytest.mark.parametrize("options, words", [
    (("dream", SIZE, RATIO), "--task=dream is not one of text, image"),
    (("inpaint", SIZE, RATIO), "--task=inpaint needs a --box"), (("image", SIZE, RATIO, 2, BOX), "takes no --box"),
    (("join", SIZE, RATIO, 3), "given 6 latent frames of a clip of 5"), (("image", (1, 8, 8), RATIO), "of a clip of 1"),
    (("inpaint", SIZE, RATIO, 2, tasks.Box(0, 0, 0, 4)), "--box=0,0,0,4,0,0 must be top,left"),
    (("inpaint", SIZE, RATIO, 2, tasks.Box(-1, -1, 99, 99)), "something outside"),
    (("inpaint", SIZE, RATIO, 2, tasks.Box(40, 0, 5, 5)), "something of a 32x48 picture inside"),
])
def test_what_leaves_nothing_to_draw_is_refused(options, words):
    with pytest.raises(InputError) as error:
        tasks.given(*options)
    assert words in str(error.value)
