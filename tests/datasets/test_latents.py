"""The cache of latents: what is written is read, what stopped goes on, what is stale, foreign or damaged is refused."""
import errno
import json
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest

from sora_jax.datasets import latents
from sora_jax.datasets.latents import Chunk, Config
from sora_jax.types import ConfigError, InputError

META = {"vae_hash": "0123456789abcdef", "data": {"name": "physics", "size": (17, 64, 64)}, "dtype": "float32",
        "mean": [0.0, 0.5], "std": [1.0, 2.0], "command": "python -m launch.encode --out=here"}
SIZES = (3, 3, 2)
VARIANTS, LENGTH = 2, 6


def chunk(k, clips, variants=VARIANTS, side=2):
    """Shard k: values that name shard, clip and channel; captions that name clip and paraphrase."""
    rng = np.random.default_rng(k)
    captions = [[f"clip {k}.{i} übung {v}" for v in range(variants)] for i in range(clips)]
    text = rng.integers(0, 256, (clips, variants, LENGTH), dtype=np.uint8)
    return Chunk(rng.normal(size=(clips, 3, side, side, 2)).astype(np.float32), text, text > 99, captions)


def chunks(calls=None, **options):
    """The shards of a whole folder as callables; `calls` collects those that are computed."""
    def make(k, clips):
        if calls is not None:
            calls.append(k)
        return chunk(k, clips, **options)

    return [lambda k=k, clips=clips: make(k, clips) for k, clips in enumerate(SIZES)]


@pytest.fixture
def folder(tmp_path):
    """A finished folder."""
    latents.write(tmp_path / "cache", chunks(), META)
    return tmp_path / "cache"


def refused(path, **fields):
    """The one-line message of a folder that cannot be opened."""
    with pytest.raises(InputError) as caught:
        latents.source(Config(str(path), **fields))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_written_is_read(tmp_path, dtype):
    told = []
    latents.write(tmp_path, chunks(), {**META, "dtype": dtype}, told.append)
    source = latents.source(Config(str(tmp_path), META["vae_hash"], verify=True))
    assert told == list(SIZES) and source.clips == 8 and len(source) == 16
    whole = [chunk(k, clips) for k, clips in enumerate(SIZES)]
    for i in range(16):
        clip, variant = i % 8, (i % 8 + i // 8) % 2
        k, row = [(k, row) for k, clips in enumerate(SIZES) for row in range(clips)][clip]
        item = source[i]
        np.testing.assert_array_equal(item["x"], whole[k].x[row].astype(dtype).astype(np.float32))
        np.testing.assert_array_equal(item["text"], whole[k].text[row, variant])
        np.testing.assert_array_equal(item["mask"], whole[k].mask[row, variant])
        assert (item["x"].dtype, item["text"].dtype, item["mask"].dtype) == (np.float32, np.uint8, bool)
        assert all(array.flags.writeable for array in item.values())
        assert source.captions(clip) == whole[k].captions[row]
    for outside in (-1, 16):
        with pytest.raises(IndexError):
            source[outside]
    assert source.meta["mean"] == META["mean"] and source.meta["data"]["name"] == "physics"


def test_every_pass_shows_another_paraphrase(folder):
    source = latents.source(Config(str(folder)))
    first, second = source[5]["text"], source[5 + source.clips]["text"]
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(source.item(5, 0)["text"], first)
    np.testing.assert_array_equal(source.item(5, 1)["text"], second)
    np.testing.assert_array_equal(source.item(5, 2)["text"], first)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source))[5]["x"], source[5]["x"])


def test_what_stopped_goes_on_to_the_same_bytes(tmp_path, folder):
    def stops():
        yield from chunks()[:2]
        raise KeyboardInterrupt

    path = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        latents.write(path, stops(), META)
    assert "stopped after 6 clips; go on with python -m launch.encode --out=here" in refused(path)
    (path / ".x-00002.npy.1").write_bytes(b"half of what a killed writer wrote")
    calls = []
    latents.write(path, chunks(calls), {**META, "command": "another"})
    assert calls == [2]
    assert sorted(part.name for part in path.iterdir()) == sorted(part.name for part in folder.iterdir())
    for name in [part.name for part in folder.iterdir() if part.name != "meta.json"]:
        assert (path / name).read_bytes() == (folder / name).read_bytes()
    latents.write(path, chunks(calls), META)
    assert calls == [2]


def test_clips_are_added_and_a_last_shard_that_was_not_full_is_made_again(tmp_path, folder):
    path, calls = tmp_path / "grown", []
    latents.write(path, chunks()[:1], {**META, "wanted": 3, "shard": 3})
    latents.write(path, chunks(calls)[:2], {**META, "wanted": 6, "shard": 3})
    assert calls == [1] and latents.source(Config(str(path), verify=True)).clips == 6
    latents.write(path, chunks(calls), {**META, "wanted": 8, "shard": 3})
    latents.write(path, [*chunks(calls), chunks(calls)[0]], {**META, "wanted": 11, "shard": 3})
    assert calls == [1, 2, 2, 0], "the shard of two is made again, and one is added"
    with pytest.raises(InputError, match="wanted 11, not 8"):
        latents.write(path, chunks(), {**META, "wanted": 8, "shard": 3})


def test_a_killed_writer_leaves_whole_shards(tmp_path):
    code = """
import os, sys
sys.path.insert(0, sys.argv[2])
import test_latents as t
from sora_jax.datasets import latents
seen = []
def done(clips):
    seen.append(clips)
    if len(seen) == 2:
        os.kill(os.getpid(), 9)
latents.write(sys.argv[1], t.chunks(), t.META, done)
"""
    here = str(__import__("pathlib").Path(__file__).parent)
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a"), here], check=False)
    assert killed.returncode == -9
    assert "stopped after 6 clips" in refused(tmp_path / "a")
    calls = []
    latents.write(tmp_path / "a", chunks(calls), META)
    assert calls == [2] and latents.source(Config(str(tmp_path / "a"), verify=True)).clips == 8


def test_latents_of_another_autoencoder_are_refused(folder):
    message = refused(folder, vae_hash="fedcba9876543210")
    assert "0123456789abcdef" in message and "fedcba9876543210" in message and "python -m launch.encode" in message
    for key, value, told in (
        ("vae_hash", "fedcba9876543210", "vae_hash '0123456789abcdef', not 'fedcba9876543210'"),
        ("data", {"name": "physics", "size": (9, 64, 64)}, "data.size [17, 64, 64], not [9, 64, 64]"),
        ("data", {"name": "physics"}, "data.size"), ("dtype", "float16", "dtype 'float32', not 'float16'"),
    ):
        with pytest.raises(InputError, match=re.escape(f"holds latents with {told}")):
            latents.write(folder, chunks(), {**META, key: value})
    assert latents.source(Config(str(folder), META["vae_hash"])).clips == 8


def test_damage_is_named_and_only_that_shard_is_made_again(folder):
    def cut(path):
        path.write_bytes(path.read_bytes()[:-1])

    def flip(path):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(bytes(data))

    for name, harm, words in (("x-00001.npy", cut, "bytes"), ("text-00000.npy", lambda path: path.unlink(), "missing"),
                              ("mask-00002.npy", flip, "damaged"), ("captions-00001.jsonl", flip, "damaged")):
        harm(folder / name)
        message = refused(folder, verify=True)
        assert name in message and words in message and "python -m launch.encode --out=here" in message
        calls = []
        latents.write(folder, chunks(calls), META)
        assert calls == [int(name.split(".")[0][-1])]
        latents.source(Config(str(folder), verify=True))
    cut(folder / "x-00000.npy")
    assert "x-00000.npy has" in refused(folder)  # a size is checked without reading


def test_what_is_not_a_folder_of_latents_is_one_line(tmp_path, folder):
    assert "data.path is empty" in refused("")
    assert "no latents in" in refused(tmp_path / "absent")
    for text in ("{", "[]", "{}", '{"format": 2, "shards": []}'):
        (folder / "meta.json").write_text(text)
        assert "meta.json" in refused(folder)
        with pytest.raises(InputError, match="meta.json"):
            latents.write(folder, chunks(), META)


def test_an_object_array_is_never_unpickled(folder):
    canary = folder.parent / "canary"

    class Payload:
        def __reduce__(self):
            return type(canary).touch, (canary,)

    np.save(folder / "x-00000.npy", np.array([Payload()], object), allow_pickle=True)
    meta = json.loads((folder / "meta.json").read_text())
    meta["shards"][0]["files"]["x-00000.npy"][0] = (folder / "x-00000.npy").stat().st_size
    (folder / "meta.json").write_text(json.dumps(meta))
    assert "damaged" in refused(folder) and not canary.exists()


def test_shapes_must_agree(tmp_path, folder):
    mixed = [chunks()[0], lambda: chunk(1, 3, side=4)]
    with pytest.raises(InputError, match="one size"):
        latents.write(tmp_path / "mixed", mixed, META)
    with pytest.raises(InputError, match="one size"):
        latents.write(tmp_path / "mixed", [chunks()[0], lambda: chunk(1, 3, variants=1)], META)
    with pytest.raises(InputError, match="shard 0: 3 latents"):
        latents.write(tmp_path / "odd", [lambda: chunk(0, 3)._replace(captions=[["a"]])], META)
    with pytest.raises(InputError, match="no clips"):
        latents.write(tmp_path / "none", [], META)
    np.save(folder / "x-00002.npy", np.zeros((2, 3, 2, 2, 1), np.float64))
    meta = json.loads((folder / "meta.json").read_text())
    meta["shards"][2]["files"]["x-00002.npy"][0] = (folder / "x-00002.npy").stat().st_size
    (folder / "meta.json").write_text(json.dumps(meta))
    assert "shard 2" in refused(folder)


def test_values_that_cannot_be_kept_are_refused(tmp_path):
    for value, dtype, words in ((np.nan, "float32", "not finite"), (1e6, "float16", "do not fit float16")):
        bad = chunk(0, 3)
        bad.x[1, 0, 0, 0, 0] = value
        with pytest.raises(InputError, match=f"clip 1 of shard 0.*{words}"):
            latents.write(tmp_path / dtype, [lambda bad=bad: bad], {**META, "dtype": dtype})
    with pytest.raises(ConfigError, match="bfloat16"):
        latents.write(tmp_path, chunks(), {**META, "dtype": "bfloat16"})


def test_a_full_disk_is_one_line_and_keeps_what_is_done(tmp_path, monkeypatch):
    real = latents.commit

    def full(path, data):
        if path.name == "x-00001.npy":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data)

    monkeypatch.setattr(latents, "commit", full)
    with pytest.raises(InputError, match="No space left.*run the same command again"):
        latents.write(tmp_path, chunks(), META)
    monkeypatch.undo()
    calls = []
    latents.write(tmp_path, chunks(calls), META)
    assert calls == [1, 2]
