"""What becomes of files of all sizes: whole tokens, whole rows, and a reason for everything that is lost."""
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sora_jax import preflight, video

ROOT = Path(__file__).resolve().parents[1]
GRAIN = preflight.Grain((4, 8, 8), (1, 2, 2), 8.0, 160)


@pytest.mark.parametrize("seen, used, layout, reason", [
    ((17, 64, 64), (17, 64, 64), (5, 4, 4), "kept"),
    ((18, 64, 64), (17, 64, 64), (5, 4, 4), "shortened to 17 of 18 frames"),
    ((1, 64, 96), (1, 64, 96), (1, 4, 6), "kept"),
    ((17, 70, 64), (17, 64, 64), (5, 4, 4), "cropped to 64×64 of 70×64"),
    ((33, 64, 96), (21, 64, 96), (6, 4, 6), "shortened to 21 of 33 frames"),
    ((90, 65, 64), (37, 64, 64), (10, 4, 4), "shortened to 37 of 90 frames; cropped to 64×64 of 65×64"),
    ((17, 15, 640), None, None, "dropped: 15×640 is less than a token, 16×16"),
    ((17, 640, 640), None, None, "dropped: a frame of 1600 tokens, a row takes 160"),
])
def test_what_is_used_of_a_clip(seen, used, layout, reason):
    found = preflight.plan("a.mp4", seen, GRAIN)
    assert (found.used, found.layout, found.reason) == (used, layout, reason)
    if used:
        assert np.prod(layout) <= GRAIN.tokens and found.share == pytest.approx(np.prod(used) / np.prod(seen))
        assert (used[0] - 1) // 4 + 1 == layout[0] and used[1:] == (16 * layout[1], 16 * layout[2])


def test_a_deep_patch_needs_more_frames():
    deep = GRAIN._replace(patch=(2, 2, 2))
    assert preflight.plan("a", (4, 64, 64), deep).reason == "dropped: 4 frames, a token needs 5"
    assert preflight.plan("a", (13, 64, 64), deep).used == (13, 64, 64)
    assert preflight.plan("a", (17, 64, 64), deep).used == (13, 64, 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three files of two sizes, one of them damaged beyond reading and one with a caption."""
    place, rng = tmp_path_factory.mktemp("films"), np.random.default_rng(0)
    for name, (f, h, w) in {"a": (9, 32, 48), "b": (9, 32, 48), "c": (5, 32, 32)}.items():
        video.write_mp4(place / f"{name}.mp4", rng.integers(0, 255, (f, h, w, 3), np.uint8), 8.0)
    (place / "a.txt").write_text("a red circle\n")
    (place / "d.mp4").write_bytes(b"nothing that is a film")
    return place


def test_files_are_planned_by_what_they_say(folder):
    sizes = {name: video.probe(folder / f"{name}.mp4") for name in "abc"}
    plans = preflight.files(folder, ["a.mp4", "b.mp4", "c.mp4", "d.mp4", "none.mp4"], GRAIN._replace(side=32))
    assert [one.reason for one in plans] == ["kept"] * 3 + ["dropped: not a container that is opened",
                                                            "dropped: no such file"]
    assert min(sizes["a"].width, sizes["a"].height) > 32, "the file is larger than what is used of it"
    assert [one.layout for one in plans[:3]] == [(3, 2, 3), (3, 2, 3), (2, 2, 2)]
    table = preflight.table(plans, 20, 4)
    for line in ("5 files: 2 dropped, 3 kept", "  d.mp4: dropped: not a container", "100.0% of the pixels",
                 "3×2×3      18        2", "packed"):
        assert line in table
    assert preflight.table(plans[3:], 20, 4).startswith("2 files: 2 dropped")


def test_the_door_writes_manifests_and_commands(folder, tmp_path):
    out = tmp_path / "native"
    done = subprocess.run([sys.executable, "-m", "launch.pack", f"--videos={folder}", "--side=32", "--tokens=160",
                           f"--out={out}"], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "JAX_PLATFORMS": "cpu"})
    assert done.returncode == 0, done.stderr
    assert (out / "3x2x3.csv").read_text() == "path,caption\na.mp4,a red circle\nb.mp4,\n"
    stop, *encode, train = (out / "commands.sh").read_text().splitlines()
    assert stop == "set -e" and len(encode) == 2 and all("launch.encode" in line for line in encode)
    words = shlex.split(train)
    assert {f"--config.data.native=('{out}/2x2x2',)", "--config.train.pack_tokens=160", "--config.eval.clips=2",
            f"--config.data.path={out}/3x2x3", "--config.data.frames=9", "--config=configs/dit.py"} <= set(words)
    assert "2 are held out and trained on as well" in done.stdout
