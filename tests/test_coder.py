"""What an autoencoder cannot take is one line that names the place, by whatever way it comes, before anything compiles;
weights that are not of the model name their file and the weight."""
import json
from fractions import Fraction

import jax
import numpy as np
import pytest
from flax import nnx, traverse_util

from configs import smoke
from sora_jax import appraise, build, checkpoint, coder, pipeline, pretrained, streaming, tiling, weights
from sora_jax.models import video_vae
from sora_jax.types import ConfigError, InputError

CONFIG = video_vae.Config(patch=(2, 4), time=(2,), space=(2,), encoder=(4, 4), decoder=(4, 4), channels=3)
WAYS = {
    "pipeline": pipeline.encode, "streaming": streaming.encode, "appraise": appraise.evaluate,
    "parts": lambda vae, x: list(streaming.encoded(vae, [x])),
    "tiles": lambda vae, x: tiling.tiled(lambda part: streaming.encode(vae, part), x, (8, 8), 0,
                                         (Fraction(1, 4), Fraction(1, 8))),
}
WHOLE = [way for way in WAYS if way != "tiles"]


@pytest.fixture(scope="module")
def vae():
    return jax.jit(lambda: video_vae.build(CONFIG, rngs=nnx.Rngs(0)))()


@pytest.fixture(autouse=True)
def nothing_compiles(monkeypatch):
    for name in ("encode", "moments", "decode", "encode_chunk", "decode_chunk"):
        monkeypatch.setattr(coder, name, lambda *_, name=name: pytest.fail(f"{name} began"))


def refused(call, *given) -> str:
    with pytest.raises(InputError) as caught:
        call(*given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("way", ["pipeline", "streaming", "parts", "tiles"])
def test_a_number_that_is_none_is_named_by_its_place(vae, way, bad):
    x = np.zeros((2, 5, 8, 16, 3), np.float32)
    x[1, 3, 6, 9, 2] = bad
    said = refused(WAYS[way], vae, x)
    assert said.endswith(f"holds {np.float32(bad)} in clip 1, frame 3, row 6, column 9"), said


@pytest.mark.parametrize("shape, words", [
    ((1, 4, 8, 16, 3), "has 4 frames; the autoencoder needs 1 + 2k: use 3 or 5"),
    ((1, 0, 8, 16, 3), "has 0 frames; the autoencoder needs 1 + 2k: use 1"),
    ((1, 5, 6, 16, 3), "has 6 rows; the autoencoder needs a multiple of 4: use 4 or 8"),
    ((1, 5, 8, 12, 3), "has 12 columns; the autoencoder needs a multiple of 8: use 8 or 16"),
    ((1, 5, 8, 4, 3), "has 4 columns; the autoencoder needs a multiple of 8: use 8"),
    ((0, 5, 8, 16, 3), "is of shape (0, 5, 8, 16, 3)"),
])
@pytest.mark.parametrize("way", WHOLE)
def test_a_size_that_does_not_compress_gets_the_nearest(vae, way, shape, words):
    assert words in refused(WAYS[way], vae, np.zeros(shape, np.uint8))


def test_numbers_of_another_kind_are_refused(vae):
    assert "is of shape (1, 5, 8, 16, 1)" in refused(pipeline.encode, vae, np.zeros((1, 5, 8, 16, 1), np.uint8))
    assert "is of int32; give uint8, or floats" in refused(coder.check, vae, np.zeros((1, 1, 8, 8, 3), np.int32))
    coder.check(vae, np.zeros((1, 1, 8, 8, 3), np.float16)), coder.check(vae, np.zeros((1, 1, 8, 8, 3), np.uint8))


def test_latents_are_looked_at(vae):
    z = np.zeros((1, 3, 2, 2, 3), np.float32)
    assert "and 3 channels" in refused(streaming.decode, vae, z[..., :2])
    z[0, 2, 1, 0] = np.nan
    assert "latents holds nan in clip 0, frame 2, row 1, column 0" in refused(streaming.decode, vae, z)


def changed(params, change):
    """The tree after a change to its leaves by path."""
    flat = weights.named_leaves(params)
    change(flat)
    return traverse_util.unflatten_dict(flat, sep="/")


@pytest.mark.parametrize("change, words", [
    (lambda flat: flat.update({"encoder/alien": np.ones(2, np.float32)}), "encoder/alien is not in the model"),
    (lambda flat: flat.pop("decoder/stem/bias"), "decoder/stem/bias is missing"),
    (lambda flat: flat.update({"mean": np.ones(5, np.float32)}), r"mean is \(5,\), the config asks for \(4,\)"),
])
def test_weights_of_another_model_name_the_file_and_the_weight(tmp_path, change, words):
    config, path = smoke.get_config("vae"), tmp_path / "w.safetensors"
    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), build.graph(config)[1])
    header = {"config": json.loads(build.to_json(config))}
    weights.save_weights(path, params, header)
    checkpoint.load_for_inspection(path)
    weights.save_weights(path, changed(params, change), header)
    for opened in (checkpoint.load_for_inspection, pipeline.autoencoder):
        with pytest.raises((ConfigError, InputError), match=f"w.safetensors: weight {words}") as caught:
            opened(path)
        assert "\n" not in str(caught.value)


def test_features_of_another_network_name_the_file(monkeypatch, tmp_path):
    monkeypatch.setattr(pretrained, "checked", lambda path: path)
    monkeypatch.setattr(pretrained.torch_file, "read", lambda path: {})
    assert "net.pth: the feature weights lack _conv_stem.weight" in refused(pretrained.features, tmp_path / "net.pth")
