"""Over the whole family of autoencoders: the encoding of a prefix is the prefix of the encoding, an image is a first
frame, streamed is whole. Layers that look ahead, planted, are seen."""
import family
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange
from flax import nnx

from configs import vae as sizes
from sora_jax import build, coder, streaming
from sora_jax.models import video_vae
from sora_jax.nn import attention, blocks, conv, frames, norm, taps, winograd
from sora_jax.types import ConfigError

CAUSAL, LEAK, WITHIN = 1e-5, 1e-3, 0.02
MEMBERS = family.sample(8)
LATENT_FRAMES = 3
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def programs():
    """An encoder and a decoder that nobody compiled before, compiled with little care: the answers are the same."""
    return tuple(jax.jit(lambda vae, x, side=side: getattr(vae, side)(x), compiler_options=QUICK)
                 for side in ("encoder", "decoder"))


def leaks(vae) -> dict[str, float]:
    """How far the prefixes of a clip, alone and before other frames, are from the prefixes of the whole, relative to
    the largest value. 0 if time never runs backwards."""
    rng, (time, high, wide), (encode, decode) = np.random.default_rng(1), vae.config.ratio, programs()
    x = rng.uniform(-1, 1, (1, 1 + (LATENT_FRAMES - 1) * time, 2 * high, wide, 3)).astype(np.float32)
    z = rng.normal(size=(1, LATENT_FRAMES, 2, 1, vae.config.channels)).astype(np.float32)
    found = {}
    for side, apply, whole, cut in (("encode", encode, x, lambda kept: 1 + (kept - 1) * time),
                                    ("decode", decode, z, lambda kept: kept)):
        answer = np.asarray(apply(vae, whole))
        scale = np.abs(answer).max()
        assert answer.std() > 1e-3 * scale
        kept = {"image": 1, "prefix": LATENT_FRAMES - 1}
        for name, count in kept.items():
            seen = count if side == "encode" else 1 + (count - 1) * time
            other = whole.copy()
            other[:, cut(count):] = rng.normal(size=other[:, cut(count):].shape)
            changed = np.asarray(apply(vae, other))
            found[f"{side}, later frames after {name}"] = np.abs(changed - answer)[:, :seen].max() / scale
            assert np.abs(changed - answer)[:, seen:].max() / scale > LEAK, "later frames are not seen at all"
        alone = np.asarray(apply(vae, whole[:, :1]))
        assert alone.shape[1] == 1
        found[f"{side}, image alone"] = np.abs(alone - answer[:, :1]).max() / scale
    return found


@pytest.mark.parametrize("name", MEMBERS)
def test_a_prefix_is_a_prefix_and_an_image_is_a_first_frame(name):
    found = leaks(family.drawn(MEMBERS[name]))
    print(name, {key: f"{value:.0e}" for key, value in found.items()})
    assert max(found.values()) <= CAUSAL, found


FEWER = {"wan (1, 2)": (2,), "wan (2, 1)": (3,), next(name for name in MEMBERS if "2x4x4 3d" in name): (2,)}


@pytest.fixture
def fewer(monkeypatch):
    """Convolutions of all sizes with fewer multiplications, which are off by more rounding: how many were made."""
    jax.clear_caches()
    made, real = [], winograd.causal
    monkeypatch.setattr(winograd, "NARROW", 1)
    monkeypatch.setattr(winograd, "WORK", 0)
    monkeypatch.setattr(taps, "SMALL", 1)
    monkeypatch.setattr(winograd, "causal", lambda *given: made.append(given[0].shape) or real(*given))
    yield made
    jax.clear_caches()


@pytest.mark.parametrize("name", FEWER)
def test_with_fewer_multiplications_too(fewer, name):
    found = leaks(family.drawn(MEMBERS[name]))
    print(name, {key: f"{value:.0e}" for key, value in found.items()})
    assert max(found.values()) <= CAUSAL, found
    assert fewer
    fewer.clear()
    streamed_is_whole(name, FEWER[name])
    assert fewer


def looks_ahead(self, x, past):
    """A convolution that sees the next frames."""
    weight = self.weight[...]
    late = jnp.concatenate([x[:, 1:], x[:, -1:]], 1)
    return conv.causal_conv3d(late, weight, self.stride, self.impl, past) + self.bias[...], past


def attends_to_all(self, x, past):
    """Attention among the positions of all frames."""
    tokens = rearrange(self.qkv(self.norm(x)), "b f h w (s a e) -> s b (f h w) a e", s=3, a=self.heads)
    y = rearrange(attention.attention(*tokens), "b n a e -> b n (a e)")
    return x + self.out(y).reshape(x.shape), None


def over_time(self, x):
    """A norm over all frames."""
    return x * jax.lax.rsqrt(jnp.mean(x * x, (1, 2, 3, 4), keepdims=True) + self.epsilon) * self.scale[...]


@pytest.mark.parametrize("layer, method, planted", [
    (conv.CausalConv3d, "stream", looks_ahead), (frames.FrameAttention, "stream", attends_to_all),
    (norm.RMSNorm, "__call__", over_time),
], ids=["convolution", "attention", "norm"])
def test_a_layer_that_looks_ahead_is_seen(monkeypatch, layer, method, planted):
    monkeypatch.setattr(layer, method, planted)
    found = leaks(family.drawn(("video_vae", family.fields((2, 4, 4), attention=1, block="3d"))))
    for side in ("encode", "decode"):
        assert max(value for key, value in found.items() if side in key) > LEAK, found


@pytest.mark.parametrize("name, chunks", [*zip(MEMBERS, ((1,), (2,), (3,)), strict=False), ("wan (1, 2)", (8,))])
def test_streamed_is_whole(name, chunks):
    streamed_is_whole(name, chunks)


def streamed_is_whole(name, chunks):
    vae = family.drawn(MEMBERS[name])
    rng, (time, high, wide) = np.random.default_rng(1), vae.config.ratio
    x = rng.uniform(-1, 1, (1, 1 + 7 * time, high, wide, 3)).astype(np.float32)
    z = np.asarray(coder.encode(vae, x))
    back = np.asarray(coder.decode_chunk(vae, z, None)[0])
    for chunk in chunks:
        for made, want in ((streaming.encode(vae, x, chunk), z), (streaming.decode(vae, z, chunk), back)):
            assert made.shape == want.shape and np.abs(made - want).max() <= CAUSAL * max(1.0, np.abs(want).max())


@pytest.mark.parametrize("time", sizes.TIMES)
def test_every_compression_has_its_shapes(time):
    for ratio in (ratio for ratio in family.RATIOS if ratio[0] == time):
        config = video_vae.Config(**family.fields(ratio, attention=1))
        assert config.ratio == ratio
        shape = (1, 1 + time, 2 * ratio[1], ratio[2], 3)
        want = video_vae.latent_shape(config, *shape[1:4])
        assert want == (2, 2, 1, config.channels)
        if ratio[1] >= ratio[2]:
            continue
        vae = nnx.eval_shape(lambda config=config: video_vae.build(config, rngs=nnx.Rngs(0)))
        made = jax.eval_shape(lambda vae, x: (vae.encode(x), vae.decode(vae.encode(x))), vae,
                              jax.ShapeDtypeStruct(shape, jnp.float32))
        assert made[0].shape[1:] == want and made[1].shape == shape


def test_rows_and_columns_compress_apart():
    """What a pair says of rows and columns is what the transposed pair says of columns and rows."""
    high, wide = (video_vae.Config(patch=p, time=(2,), space=s, encoder=(4, 4), decoder=(4, 4), channels=2)
                  for p, s in (((2, 4), ((2, 1),)), ((4, 2), ((1, 2),))))
    assert high.ratio == (2, 4, 4) == wide.ratio and high != wide
    assert video_vae.Config(patch=(1, 4), space=((2, 4), (1, 2))).ratio == (4, 2, 32)
    same = video_vae.Config(patch=(4, 4), space=((2, 2), (1, 1)))
    assert same.ratio == video_vae.Config().ratio and same.downs == video_vae.Config().downs
    assert video_vae.flops(same, 17, 64, 64) == video_vae.flops(video_vae.Config(), 17, 64, 64)


@pytest.mark.parametrize("fields, words", [
    ({"patch": 0}, "vae.patch=0: 0 is no whole number"), ({"patch": (4, 0)}, r"vae.patch=\(4, 0\)"),
    ({"space": (2, (2, -1))}, r"vae.space=\(2, \(2, -1\)\): \(2, -1\) is no whole number"),
    ({"time": (2, 0)}, r"vae.time=\(2, 0\): every reduction"), ({"time": (True, 2)}, "vae.time="),
    ({"attention": 5}, r"vae.attention=5 heads do not divide the widths \(128, 192\)"),
    ({"attention": -1}, "vae.attention=-1"), ({"block": "2d"}, "vae.block='2d' is not one of 2"),
])
def test_a_member_that_cannot_be_is_refused(fields, words):
    with pytest.raises(ConfigError, match=words) as caught:
        video_vae.Config(**fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sizes.SIZES)
def test_a_size_has_the_parameters_of_its_name(name):
    found = sum(build.param_counts(sizes.get_config(name)).values())
    assert found == pytest.approx(float(name.removesuffix("M")) * 1e6, rel=WITHIN if name != "3M" else 0.04)


def test_the_sizes_are_a_ladder():
    counts = [float(name.removesuffix("M")) for name in sizes.SIZES]
    assert counts == sorted(counts) and (counts[0], counts[-1]) == (0.2, 127)
    assert sizes.get_config("3M-4x8x8").vae.to_dict() == sizes.get_config().vae.to_dict()
    for name, words in (("5M", "no size '5M'; there are 0.2M"), ("3M-3x8x8", "no compression '3x8x8'"), ("4x8", "4x8")):
        with pytest.raises(ValueError, match=words):
            sizes.get_config(name)


def test_full_blocks_are_blocks():
    assert isinstance(family.drawn(("video_vae", family.fields((1, 4, 4), block="3d"))).encoder.stages[0][0],
                      blocks.Residual)
