"""The feature network against its own definition in numpy, batch norms unfolded; names, shapes and cost."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sora_jax.models import features
from sora_jax.types import InputError

SMALL = features.Config(stem=4, stages=((1, 3, 1, 1, 4), (2, 5, 2, 3, 6), (1, 3, 1, 6, 8)), head=10, classes=7)
CLOSE = 1e-4


def planted(config, seed=0):
    """Arrays under the public port's names, none of them trivial."""
    rng, arrays = np.random.default_rng(seed), {}
    shapes = {"_conv_stem": (config.stem, 3, 3, 3)}
    cin, number = config.stem, 0
    for repeat, kernel, _, expansion, cout in config.stages:
        for _ in range(repeat):
            wide, name = cin * expansion, f"_blocks.{number}."
            if expansion > 1:
                shapes[f"{name}_expand_conv"] = (wide, cin, 1, 1)
            shapes[f"{name}_depthwise_conv"] = (wide, 1, kernel, kernel)
            shapes[f"{name}_project_conv"] = (cout, wide, 1, 1)
            cin, number = cout, number + 1
    shapes["_conv_head"] = (config.head, cin, 1, 1)
    for name, shape in shapes.items():
        norm = {"_conv_stem": "_bn0", "_conv_head": "_bn1"}.get(name) or (
            name.replace("_expand_conv", "_bn0").replace("_depthwise_conv", "_bn1").replace("_project_conv", "_bn2"))
        arrays[f"{name}.weight"] = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        for part, low, high in (("weight", 0.5, 2), ("bias", -1, 1), ("running_mean", -1, 1), ("running_var", 0.2, 2)):
            arrays[f"{norm}.{part}"] = rng.uniform(low, high, shape[0])
        arrays[f"{norm}.num_batches_tracked"] = np.array(9)
    arrays["_fc.weight"] = rng.normal(size=(config.classes, config.head))
    arrays["_fc.bias"] = rng.normal(size=config.classes)
    return arrays


def defined(arrays, config, pixels):
    """Stage maps and logits of one picture `h w 3`, pixels 0 to 255, by loops and in double precision."""
    def convolve(x, name, norm, stride, act):
        weight = arrays[f"{name}.weight"]
        out, depthwise, k = weight.shape[0], "_depthwise" in name, weight.shape[-1]
        size = [-(-n // stride) for n in x.shape[:2]]
        before = [max((m - 1) * stride + k - n, 0) for m, n in zip(size, x.shape[:2], strict=True)]
        x = np.pad(x, [(b // 2, b - b // 2) for b in before] + [(0, 0)])
        y = np.zeros((*size, out))
        for i in range(size[0]):
            for j in range(size[1]):
                patch = x[i * stride:i * stride + k, j * stride:j * stride + k]
                y[i, j] = (np.einsum("hwc,chw->c", patch, weight[:, 0]) if depthwise
                           else np.einsum("hwc,dchw->d", patch, weight))
        y = (y - arrays[f"{norm}.running_mean"]) / np.sqrt(arrays[f"{norm}.running_var"] + 1e-3)
        y = y * arrays[f"{norm}.weight"] + arrays[f"{norm}.bias"]
        return np.clip(y, 0, 6) if act else y

    x, maps, number, cin = convolve((pixels - 127.0) / 128, "_conv_stem", "_bn0", 2, True), [], 0, config.stem
    for repeat, _, stride, expansion, cout in config.stages:
        for i in range(repeat):
            name, step = f"_blocks.{number}.", stride if i == 0 else 1
            y = convolve(x, f"{name}_expand_conv", f"{name}_bn0", 1, True) if expansion > 1 else x
            y = convolve(y, f"{name}_depthwise_conv", f"{name}_bn1", step, True)
            y = convolve(y, f"{name}_project_conv", f"{name}_bn2", 1, False)
            x = x + y if step == 1 and cin == cout else y
            cin, number = cout, number + 1
        maps.append(x)
    pooled = convolve(x, "_conv_head", "_bn1", 1, True).mean((0, 1))
    return maps, arrays["_fc.weight"] @ pooled + arrays["_fc.bias"]


@pytest.mark.parametrize("size", [(12, 10), (9, 15)])
def test_the_network_is_its_definition(size):
    arrays = planted(SMALL)
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.float64)
    maps, logits = defined(arrays, SMALL, pixels)
    model, x = features.from_arrays(arrays, SMALL), jnp.asarray(pixels / 127.5 - 1, jnp.float32)[None]
    found, scores = jax.jit(lambda m, x: (m.maps(x), m.logits(x)))(model, x)
    for have, want in zip(found, maps, strict=True):
        np.testing.assert_allclose(have[0], want, atol=CLOSE)
    np.testing.assert_allclose(scores[0], logits, atol=CLOSE)
    assert len(jax.eval_shape(lambda m, x: m.maps(x, 1), model, x)) == 2


def test_the_default_is_lite0():
    """4,652,008 parameters by the public port's count, of which a folded norm's gain is not one any more."""
    made = nnx.eval_shape(lambda: features.build(features.Config(), rngs=nnx.Rngs(0)))
    gains = sum(arrays.shape[0] for name, arrays in planted(features.Config()).items()
                if name.endswith("running_var"))
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(made))) + gains == 4_652_008
    shapes = jax.eval_shape(lambda m: m.maps(jnp.zeros((1, 64, 64, 3))), made)
    assert [s.shape[1:] for s in shapes] == [(32, 32, 16), (16, 16, 24), (8, 8, 40), (4, 4, 80), (4, 4, 112),
                                             (2, 2, 192), (2, 2, 320)]


def test_the_cost_is_that_of_the_published_network():
    """407 million multiply-adds at 224 pixels (the authors' table), of which head and classes are a part."""
    head = 7 * 7 * 320 * 1280 + 1280 * 1000
    whole = features.flops(features.Config(), 224, 224)["features"] / 2 + head
    assert whole == pytest.approx(407e6, rel=0.06)
    parts = [features.flops(features.Config(), 64, 64, last)["features"] for last in range(7)]
    assert parts == sorted(parts)
    assert features.flops(SMALL, 8, 8, 0)["features"] == 2 * 16 * (27 * 4 + 4 * (9 + 4))


@pytest.mark.parametrize("change, said", [
    (lambda a: a.pop("_blocks.1._bn1.bias"), "lack _blocks.1._bn1.bias"),
    (lambda a: a.update(extra=np.ones(1)), "hold extra"),
    (lambda a: a.update({"_fc.bias": np.ones(3)}), r"_fc.bias is \(3,\), not \(7,\)"),
    (lambda a: a.update({"_fc.weight": np.ones(10)}), r"_fc.weight is \(10,\), not \(7, 10\)"),
    (lambda a: a.update({"_bn0.weight": np.ones(3)}), r"_bn0.weight is \(3,\), not \(4,\)"),
    (lambda a: a.update({"_bn0.running_var": np.ones(1)}), r"_bn0.running_var is \(1,\), not \(4,\)"),
    (lambda a: a.update({"_conv_stem.weight": np.ones((4, 27))}),
     r"_conv_stem.weight is \(4, 27\), not \(4, 3, 3, 3\)"),
    (lambda a: a.update({"_blocks.0._depthwise_conv.weight": np.ones((4, 2, 3, 3))}),
     r"_depthwise_conv.weight is \(4, 2, 3, 3\), not \(4, 1, 3, 3\)"),
])
def test_weights_of_another_network_are_refused(change, said):
    arrays = planted(SMALL)
    change(arrays)
    with pytest.raises(InputError, match=said):
        features.from_arrays(arrays, SMALL)
