"""Rows are exact, whole and reported once; pictures can be looked at; a page links to nothing."""
import io
import json
import math
import re
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from sora_jax import report
from sora_jax.report import Figure, Movie, Pre, Section, Table, Text, Writer
from sora_jax.types import InputError

CLIPS = np.random.default_rng(0).integers(0, 255, (3, 5, 8, 8, 3), np.uint8)


def lines(folder):
    return (folder / "metrics.jsonl").read_text().splitlines()


def untimed(folder):
    """Rows but for the clock."""
    return [{name: value for name, value in json.loads(line).items() if name != "time"} for line in lines(folder)]


def events(folder):
    """Every event of a folder, read with the format's own framing: length, crc, data, crc."""
    for path in sorted(folder.glob("events.*")):
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            yield Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]


def test_scalars_read_back_exactly_and_nan_is_never_null(tmp_path):
    value = np.float32(0.1) / np.float32(3)
    with Writer(tmp_path) as writer:
        writer.write_scalars(1, {"loss": jnp.asarray(value), "grad": np.float64(1 / 3)}, prefix="trunk/")
        writer.write_scalars(2, {"loss": jnp.asarray(jnp.nan), "top": math.inf})
        rows = writer.rows()
    assert all(abs(row.pop("time") - time.time()) < 60 for row in rows)
    assert rows[0] == {"step": 1, "trunk/loss": float(value), "trunk/grad": 1 / 3}
    assert math.isnan(rows[1]["loss"]) and rows[1]["top"] == math.inf
    assert "null" not in (tmp_path / "metrics.jsonl").read_text()


def test_scalars_and_films_reach_the_event_files(tmp_path):
    with Writer(tmp_path) as writer:
        writer.write_scalars(7, {"loss": 0.5}, prefix="trunk/")
        writer.write_video("samples", 7, CLIPS, fps=10)
    trunk = [value for event in events(tmp_path / "events" / "trunk") for value in event.summary.value]
    assert [(value.tag, value.simple_value) for value in trunk] == [("loss", 0.5)]
    film = next(value for event in events(tmp_path / "events") for value in event.summary.value)
    assert film.tag == "samples" and (film.image.height, film.image.width) == (16, 16)
    gif = Image.open(io.BytesIO(film.image.encoded_image_string))
    assert gif.n_frames == 5 and gif.info["duration"] == 100 and gif.info["loop"] == 0
    assert (tmp_path / "media" / "samples-00000007.gif").read_bytes() == film.image.encoded_image_string


def test_images_are_tiled_and_kept(tmp_path):
    with Writer(tmp_path) as writer:
        writer.write_images("grid", 3, CLIPS[:, 0])
    found = np.asarray(Image.open(tmp_path / "media" / "grid-00000003.png"))
    np.testing.assert_array_equal(found[:8, 8:], CLIPS[1, 0])
    np.testing.assert_array_equal(found[8:, 8:], 0)


@pytest.mark.parametrize("tail", ['{"step": 3, "lo', '{"step": 3, "loss": 0.2', "\0\0\0\0\n", "{"])
def test_a_row_cut_by_a_crash_is_removed_and_said_so(tmp_path, tail, caplog):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.4}\n' + tail)
    with Writer(tmp_path) as writer:
        assert [row["step"] for row in writer.rows()] == [1, 2]
        writer.write_scalars(3, {"loss": 0.3})
    assert len(lines(tmp_path)) == 3 and "cut after" in caplog.text


def test_a_bad_row_inside_is_an_error_with_its_line(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nrubbish\n{"step": 3}\n')
    with pytest.raises(InputError, match="metrics.jsonl:2: not a row"):
        Writer(tmp_path)


def test_a_resumed_run_reports_every_step_once(tmp_path):
    with Writer(tmp_path) as writer:
        for step in range(1, 9):
            writer.write_scalars(step, {"loss": 1 / step}, prefix="trunk/")
        writer.write_scalars(7, {"loss": 9.0}, prefix="branch-7/")
    whole = untimed(tmp_path)
    with Writer(tmp_path) as writer:
        writer.resume(5, "trunk")
        for step in range(6, 9):
            writer.write_scalars(step, {"loss": 1 / step}, prefix="trunk/")
    assert sorted(untimed(tmp_path), key=str) == sorted(whole, key=str)
    starts = [event.step for event in events(tmp_path / "events" / "trunk") if event.session_log.status == 1]
    assert starts == [6], "TensorBoard forgets what was written from step 6 on"
    with Writer(tmp_path) as writer:
        writer.resume(2)
        assert [row["step"] for row in writer.rows()] == [1, 2]


def test_a_record_is_written_once(tmp_path):
    with Writer(tmp_path) as writer:
        writer.write_record({"id": "a", "val_loss": 0.5})
        writer.write_record({"id": "a", "val_loss": 0.5})
        with pytest.raises(InputError, match="recorded once"):
            writer.write_record({"id": "a", "val_loss": 0.4})
    text = (tmp_path / "record.json").read_text()
    assert text.count("\n") == 1 and json.loads(text)["val_loss"] == 0.5


def test_other_hosts_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(report.jax, "process_index", lambda: 1)
    with Writer(tmp_path / "run") as writer:
        writer.write_scalars(1, {"loss": 1.0})
        writer.write_video("samples", 1, CLIPS)
        writer.write_record({})
        writer.resume(0)
    assert not (tmp_path / "run").exists()


def test_progress_without_a_terminal_is_a_few_lines(capsys):
    with report.progress(200, "trunk", initial=100, every=0.0) as bar:
        bar.update(50)
        bar.set(loss=0.123456)
        bar.update(50)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3 and said[0].startswith("trunk 150/200 (75%), ") and " left" in said[0]
    assert said[-1].endswith("loss 0.1235") and "left" not in said[-1]
    with report.progress(1000, "quiet") as bar:
        for _ in range(1000):
            bar.update()
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_progress_on_a_terminal_is_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    with report.progress(10, "trunk") as bar:
        bar.set(loss=0.5)
        bar.update(10)
    assert "100%" in sys.stderr.getvalue() and "loss 0.5" in sys.stderr.getvalue()


MP4 = b"\0\0\0\x18ftypisom" + bytes(20)


@pytest.fixture
def html(tmp_path):
    (tmp_path / "f.svg").write_text('<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"></svg>')
    (tmp_path / "c.mp4").write_bytes(MP4)
    path = report.page(tmp_path / "out" / "page.html", "A <title>", [
        Section("Numbers & words", [
            "a <script>alert(1)</script> word", Text("see http://example.com"), Pre("a = <b>"),
            Table(["size", "loss"], [["w<64>", 0.123456], ["w128", np.float32(0.1)]]),
        ]),
        ("Pictures", [
            Figure(tmp_path / "f.svg", 'a "curve"'), Figure(CLIPS[0, 0]), Movie(tmp_path / "c.mp4", "ground & truth"),
            Movie(MP4), Movie(report.animation(CLIPS[0])), "after",
        ]),
    ])
    return path.read_text()


def test_a_page_holds_everything_and_links_to_nothing(html):
    assert not re.search(r"""(src|href|url|action|srcset|poster)\s*[=(]\s*["']?\s*(https?:)?//""", html, re.IGNORECASE)
    assert set(re.findall(r'(?:src|href)="([^:]+):', html)) == {"data"}
    assert not re.search(r"<(script|link|iframe|object|form|base)\b", html, re.IGNORECASE) and "@import" not in html
    assert html.count("data:video/mp4;base64,") == 2 and html.count("<video autoplay loop muted playsinline") == 2
    assert html.count("data:image/svg+xml") == html.count("data:image/png") == html.count("data:image/gif") == 1
    assert html.count('class="cards"') == 1


def test_a_page_shows_text_as_text(html):
    for shown in ("A &lt;title&gt;", "a &lt;script&gt;alert(1)", "a = &lt;b&gt;", "w&lt;64&gt;", "0.1235"):
        assert shown in html
    assert "<figcaption>ground &amp; truth</figcaption>" in html
    assert 'alt="a &quot;curve&quot;"' in html


@pytest.mark.parametrize("block, words", [
    (Figure("nowhere.png"), "nowhere.png cannot be put in the page"),
    (Movie(b"MZ...."), "6 bytes cannot be put in the page"),
])
def test_a_page_names_what_it_cannot_show(tmp_path, block, words):
    with pytest.raises(InputError, match=words):
        report.page(tmp_path / "page.html", "t", [("s", [block])])
    assert not (tmp_path / "page.html").exists()
