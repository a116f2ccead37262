"""Bytes ⇄ clip: exact conversions, exact averages, what is written is read, and what lies is refused with a reason."""

import av
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from films import BIKES, BUNNY, CARPHONE, COLOUR_ERROR, GIF_TICK, clip, encode
from PIL import Image

from sora_jax import video
from sora_jax.types import InputError
from sora_jax.video import write


def test_pixels_survive_the_round_trip_to_floats():
    every = np.arange(256, dtype=np.uint8).reshape(1, 1, 256)
    for array in (every, jnp.asarray(every)):
        floats = video.to_float(array)
        assert floats.dtype == np.float32 and float(floats.min()) == -1 and float(floats.max()) == 1
        np.testing.assert_array_equal(video.to_uint8(floats), every)
    np.testing.assert_array_equal(jax.jit(lambda x: video.to_uint8(video.to_float(x)))(every), every)
    np.testing.assert_array_equal(video.to_uint8(np.float32([-7, 7])), [0, 255])
    assert isinstance(video.to_float(every), np.ndarray)


SHAPES = [(24, 36, 4, 6), (24, 36, 8, 36), (17, 23, 5, 7), (5, 7, 17, 23), (6, 4, 4, 6), (1, 1, 3, 2)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_area_resize_is_the_exact_average(shape):
    h, w, high, wide = shape
    frames = np.random.default_rng(0).integers(0, 256, (2, h, w, 3), dtype=np.uint8)
    fine = frames.astype(np.int64).repeat(high, 1).repeat(wide, 2)  # a lattice that both grids divide
    exact = fine.reshape(2, high, h, wide, w, 3).sum((2, 4))
    np.testing.assert_array_equal(video.resize_area(frames, high, wide), np.rint(exact / (h * w)).astype(np.uint8))
    np.testing.assert_array_equal(video.resize_area(frames[0], high, wide), video.resize_area(frames, high, wide)[0])


def test_crop_keeps_the_centre_and_the_aspect():
    frame = np.arange(10 * 20 * 3, dtype=np.uint8).reshape(10, 20, 3)
    np.testing.assert_array_equal(video.crop_center(frame, 1, 1), frame[:, 5:15])
    np.testing.assert_array_equal(video.crop_center(frame[None], 32, 256)[0], frame[4:6])
    assert video.crop_center(frame, 64, 128).shape == frame.shape


def test_resampling_takes_the_right_frames():
    frames = np.broadcast_to(np.arange(26, dtype=np.uint8).reshape(26, 1, 1, 1) * 8, (26, 2, 2, 3))
    seen = video.resample(frames, 25, 8, 9)[:, 0, 0, 0] // 8
    np.testing.assert_array_equal(seen, [0, 3, 6, 9, 13, 16, 19, 22, 25])  # 12.5 is a tie: the later frame
    np.testing.assert_array_equal(video.resample(frames, 8, 8, 26), frames)
    np.testing.assert_array_equal(video.resample(frames[:2], 8, 16, 4)[:, 0, 0, 0], [0, 8, 8, 8])
    np.testing.assert_array_equal(video.resample(frames[:3], 4, 16, 9, "linear")[:, 0, 0, 0], np.arange(9) * 2)
    with pytest.raises(InputError, match="needed at 3.250 s"):
        video.resample(frames, 8, 8, 27)
    with pytest.raises(InputError, match="nearest, linear"):
        video.resample(frames, 8, 8, 2, "cubic")


@pytest.mark.parametrize("size", [(48, 64), (33, 47), (1, 1)])
def test_a_lossless_file_gives_the_same_pixels(tmp_path, size):
    frames = np.random.default_rng(0).integers(0, 256, (5, *size, 3), dtype=np.uint8)
    back, fps = video.read(video.write_mp4(tmp_path / "deep" / "a.mp4", frames, 8, lossless=True))
    np.testing.assert_array_equal(back, frames)
    assert fps == 8 and [path.name for path in (tmp_path / "deep").iterdir()] == ["a.mp4"]


def test_a_shown_file_is_what_browsers_play(tmp_path):
    patches = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [128, 128, 128]], np.uint8)
    frames = np.broadcast_to(patches.repeat(7, 0)[None, None], (4, 15, 35, 3))
    path = video.write_mp4(tmp_path / "a.mp4", frames, 29.97)
    info = video.probe(path)
    assert (info.height, info.width, info.frames, info.codec) == (106, 246, 4, "h264")  # 7 times larger, then padded
    assert info.fps == pytest.approx(29.97)
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert context.pix_fmt == "yuv420p" and context.colorspace == context.color_range == 1
    shown = video.read(path)[0][2, 50, 24::49]
    assert np.abs(shown.astype(int) - patches).max() <= COLOUR_ERROR


def test_animations_hold_every_frame(tmp_path):
    frames = clip(6, 16, 24)
    for path in (video.write_gif(tmp_path / "a.gif", frames, 8), video.write_webp(tmp_path / "a.webp", frames, 8)):
        with Image.open(path) as picture:
            assert picture.n_frames == 6 and picture.size == (192, 128) and picture.info["loop"] == 0
            picture.seek(1)
            picture.load()
            assert abs(picture.info["duration"] - 125) < GIF_TICK
    path = video.write_webp(tmp_path / "b.webp", frames, 8, scale=1, lossless=True)
    with Image.open(path) as picture:
        picture.seek(3)
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), frames[3])


def test_only_clips_are_written():
    for wrong in (np.zeros((2, 4, 4, 3), np.float32), np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4, 4, 3), np.uint8)):
        with pytest.raises(InputError, match="uint8 f h w 3"):
            write.checked(wrong)
    with pytest.raises(InputError, match="fps"):
        video.encode_mp4(clip(2), 0)


def test_a_contact_sheet_shows_first_and_last_frame():
    a, b = clip(9, 16, 16), clip(2, 8, 16, seed=1)
    sheet = video.contact_sheet([a, b], columns=3, scale=1, gap=1)
    assert sheet.shape == (1 + 2 * 17, 1 + 3 * 17, 3)
    for column, frame in zip((1, 18, 35), (0, 4, 8), strict=True):
        np.testing.assert_array_equal(sheet[1:17, column:column + 16], a[frame])
    np.testing.assert_array_equal(sheet[18:26, 18:34], b[1])
    named = video.contact_sheet([a, b], labels=["a red\ncircle", "红色"], scale=1)
    assert (named[:16] < 100).any() and named.shape[0] > sheet.shape[0]


def test_a_picture_is_read_as_one_frame(tmp_path):
    picture = clip(1, 32, 96)[0]
    path = video.write_image(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(video.read_image(path, 32, 96), picture)
    np.testing.assert_array_equal(video.read_image(path, 8, 8), video.resize_area(picture[:, 32:64], 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side: shown a quarter turn clockwise
    Image.fromarray(picture).save(tmp_path / "b.png", exif=exif)
    np.testing.assert_array_equal(video.read_image(tmp_path / "b.png", 96, 32), np.rot90(picture, -1))
    (tmp_path / "c.png").write_bytes(path.read_bytes()[:100])
    (tmp_path / "d.png").write_text("<svg/>")
    told = {"absent.png": "missing", "c.png": "format", "d.png": "format"}
    for name, why in told.items():
        with pytest.raises(video.MediaError) as caught:
            video.read_image(tmp_path / name, 8, 8)
        assert caught.value.reason == why
    with pytest.raises(video.MediaError, match="limit of 9000"):
        video.read_image(path, 8, 8, limit=9000)


@pytest.mark.parametrize("container, codec, pix_fmt", [
    ("mp4", "libx264", "yuv420p"), ("mov", "libx265", "yuv420p10le"), ("matroska", "ffv1", "bgr0"),
    ("webm", "libvpx-vp9", "yuv420p"), ("avi", "mpeg4", "yuv420p"), ("mp4", "libsvtav1", "yuv420p"),
])
def test_common_files_are_read_whatever_their_name(tmp_path, container, codec, pix_fmt):
    frames, path = clip(12), tmp_path / "clip.txt"
    path.write_bytes(encode(frames, container, codec, pix_fmt))
    back, fps = video.read(path)
    assert fps == 8 and back.shape == frames.shape
    assert np.abs(back.astype(int) - frames).mean() < (1e-9 if codec == "ffv1" else 8)
    info = video.probe(path)
    assert (info.frames, info.width, info.height) == (12, 64, 48)
    np.testing.assert_array_equal(video.read(path, count=4, fps=4, start=0.5)[0], back[[4, 6, 8, 10]])


@pytest.mark.parametrize("path", [CARPHONE, BIKES, BUNNY])
def test_a_window_of_a_film_is_that_window_of_the_whole(path):
    def small(frame):
        return video.resize_area(frame, 18, 32)

    whole, fps = video.read(path, each=small)
    assert len(whole) == video.probe(path).frames
    for start in (0.0, 1.37, 2.5):
        nearest = np.floor((start + np.arange(9) / 8) * fps + 0.5).astype(int)
        np.testing.assert_array_equal(video.read(path, count=9, fps=8, start=start, each=small)[0], whole[nearest])
    np.testing.assert_array_equal(video.read(path, fps=fps / 3, each=small)[0], whole[:3 * (len(whole) // 3):3])
    np.testing.assert_array_equal(video.read(path, start=30 / fps, each=small)[0], whole[30:])


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_a_turned_film_is_read_upright(tmp_path, rotation):
    frames = np.zeros((3, 32, 64, 3), np.uint8)
    frames[:, :8, :16] = 255  # the mark is top left as stored
    path = tmp_path / "a.mp4"
    path.write_bytes(encode(frames, "mp4", "libx264", rotation=rotation))
    back = video.read(path)[0][1]
    corner = {90: back[-4, 2], -90: back[4, -4], 180: back[-4, -4]}[rotation]  # counter-clockwise is positive
    assert back.shape[:2] == ((32, 64) if rotation == 180 else (64, 32)) and corner.min() > 200
