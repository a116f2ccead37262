"""What is not a film, or lies about itself, is refused with a reason before it can do harm."""
import os
import struct
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer

import av
import numpy as np
import pytest
from films import UNSEEN, clip, encode, fast_start, reason

from sora_jax import video


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
