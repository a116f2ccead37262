"""Films there and back: the answer of the whole clip whatever the chunks, little held, bad files set aside."""
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sora_jax import reconstructing, registry, video
from sora_jax.evals import reconstruction
from sora_jax.reconstructing import Options
from sora_jax.types import InputError
from tests.films import clip

ROUNDING = 1  # grey level, where a float lies between two


@pytest.fixture(scope="module")
def vae():
    """An autoencoder of 4×4 cells and 2 frames, every weight noise."""
    module = registry.load("models", "video_vae")
    made = module.Config(patch=2, channels=3, time=(2,), space=(2,), encoder=(4, 6), decoder=(6, 4))
    graph, shapes = nnx.split(nnx.eval_shape(lambda: module.build(made, rngs=nnx.Rngs(0))))
    rng = np.random.default_rng(0)
    noisy = [jnp.asarray(rng.normal(size=leaf.shape, scale=leaf.size**-0.25).astype(np.float32))
             for leaf in jax.tree.leaves(shapes)]
    return nnx.merge(graph, jax.tree.unflatten(jax.tree.structure(shapes), noisy))


def passed(vae, frames, **options):
    pairs = list(reconstructing.Passage(vae, Options(**options)).through(iter(frames)))
    return (np.concatenate(side) for side in zip(*pairs, strict=True))


@pytest.mark.parametrize("chunk", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 6, 7])
def test_chunks_give_the_answer_of_the_whole(vae, chunk, count):
    frames = clip(count, 16, 24)
    x, y = passed(vae, frames, chunk=chunk)
    np.testing.assert_array_equal(x, frames)
    filled = np.concatenate([frames, frames[-1:]]) if count == 6 else frames
    want = video.to_uint8(np.asarray(vae.decode(vae.encode(jnp.asarray(video.to_float(filled[None]))))))[0, :count]
    assert y.shape == frames.shape and np.abs(y.astype(int) - want).max() <= ROUNDING


def test_no_more_is_read_than_a_chunk(vae):
    read = []
    frames = (read.append(k) or frame for k, frame in enumerate(clip(40, 16, 16)))
    parts = reconstructing.Passage(vae, Options(chunk=2)).through(frames)
    for wanted in (3, 7, 11):
        next(parts)
        assert len(read) == wanted


def test_tiles_say_how_much_they_disagree(vae):
    passage = reconstructing.Passage(vae, Options(chunk=1, tile=16, overlap=8))
    parts = list(passage.through(iter(clip(5, 16, 32))))
    seam = passage.seams()["seam"]
    assert sum(len(x) for x, _ in parts) == 5 and all(x.shape == y.shape for x, y in parts)
    assert seam["tiles"] == 3 and seam["latents"] > 0 and seam["grey_levels"] > 0
    once = reconstructing.Passage(vae, Options(chunk=1, tile=32, overlap=8))
    list(once.through(iter(clip(5, 16, 32))))
    assert once.seams() == {}


def test_a_folder_leaves_films_sheets_and_figures(vae, tmp_path):
    films, out = tmp_path / "films", tmp_path / "out"
    frames = clip(7, 18, 26)
    video.write_mp4(films / "deep" / "a.mp4", frames, 12.5, lossless=True)
    (films / "bad.mp4").write_text("no film")
    data = (films / "deep" / "a.mp4").read_bytes()
    (films / "cut.mkv").write_bytes(data[: len(data) // 2])
    found = reconstructing.reconstruct(vae, films, out, Options(frames=5))
    assert {name: cause["reason"] for name, cause in found["aside"].items()} == {"bad.mp4": "format",
                                                                                "cut.mkv": "unreadable"}
    x, y = passed(vae, video.window(frames[:5], 16, 24))
    figures = found["films"][str(Path("deep") / "a.mp4")]
    assert figures["psnr"] == pytest.approx(reconstruction.psnr(((x.astype(float) - y) ** 2).mean()))
    assert (figures["frames"], figures["size"], figures["fps"]) == (5, [16, 24], 12.5)
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == ["deep/a.mp4",
                                                                                              "deep/a.png"]
    beside, _ = video.read(out / "deep" / "a.mp4")
    assert beside.shape == (5, 16, 48, 3)


def test_mistakes_are_one_line(vae, tmp_path):
    video.write_mp4(tmp_path / "a.mp4", clip(3, 16, 16), 8)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.mp4").touch()
    wrong = [(tmp_path, tmp_path / "in", {}, "where the originals are"),
             (tmp_path / "a.mp4", tmp_path, {}, "where the originals are"),
             (tmp_path / "bad", tmp_path / "out", {}, "the first is set aside as empty"),
             (tmp_path / "no", tmp_path / "out", {}, "no video file or folder"),
             (tmp_path, tmp_path / "out", {"tile": 10}, "--tile=10 is not a multiple of 4"),
             (tmp_path, tmp_path / "out", {"tile": 8, "overlap": 8}, "must be smaller than --tile=8"),
             (tmp_path, tmp_path / "out", {"size": (16, 18)}, "--width=18 is not a multiple of 4")]
    for path, out, options, words in wrong:
        with pytest.raises(InputError, match=words) as caught:
            reconstructing.reconstruct(vae, path, out, Options(**options))
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "in").exists()
