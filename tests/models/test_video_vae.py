"""The causal video autoencoder: time never runs backwards, one frame is an image, and the counts are exact."""
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sora_jax.models import video_vae
from sora_jax.models.video_vae import Config
from sora_jax.types import ConfigError

CAUSAL, AGREE = 1e-5, 5e-5
SMALL = {"encoder": (8, 12), "decoder": (12, 8), "channels": 4}
CONFIGS = {
    "4x8x8": Config(patch=4, time=(2, 2), space=(2, 1), encoder=(8, 12, 8), decoder=(8, 8, 12), channels=4),
    "2x4x4": Config(patch=2, time=(2,), space=(2,), **SMALL),
    "4x16x16": Config(patch=4, time=(2, 2), space=(2, 2), encoder=(8, 8, 12), decoder=(8, 12, 8), channels=3),
    "1x4x4": Config(patch=4, time=(1,), space=(1,), **SMALL),
}
OPTIONS = {
    "sides apart": Config(patch=(2, 4), time=(4,), space=((4, 1),), **SMALL),
    "attention": Config(patch=2, time=(2,), space=(2,), attention=2, **SMALL),
    "full blocks, attention": Config(patch=4, time=(2,), space=((1, 2),), blocks=2, block="3d", attention=1, **SMALL),
}


@functools.lru_cache
def drawn(name):
    """An autoencoder whose every weight is noise, so that no zero hides a leak."""
    graph, shapes = nnx.split(nnx.eval_shape(lambda: video_vae.build(CONFIGS[name], rngs=nnx.Rngs(0))))
    leaves, tree = jax.tree.flatten(shapes)
    rng = np.random.default_rng(0)
    noisy = [jnp.asarray(rng.normal(size=leaf.shape, scale=leaf.size**-0.25).astype(np.float32)) for leaf in leaves]
    return nnx.merge(graph, jax.tree.unflatten(tree, noisy))


@jax.jit
def encode(vae, x):
    return vae.encode(x)


@jax.jit
def decode(vae, z):
    return vae.decode(z)


def clip(name, blocks=2):
    """Random pixels of `1 + blocks · time` frames, two latent cells high and three wide."""
    time, high, wide = CONFIGS[name].ratio
    shape = (1, 1 + blocks * time, 2 * high, 3 * wide, 3)
    return jnp.asarray(np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32))


@pytest.mark.parametrize("name", CONFIGS)
def test_shapes_follow_the_ratios(name):
    config, x = CONFIGS[name], clip(name)
    assert config.ratio == tuple(int(part) for part in name.split("x"))
    z = encode(drawn(name), x)
    assert z.shape[1:] == (3, 2, 3, config.channels) == video_vae.latent_shape(config, *x.shape[1:4])
    assert decode(drawn(name), z).shape == x.shape


@pytest.mark.parametrize("name", CONFIGS)
def test_the_encoding_of_a_prefix_is_the_prefix_of_the_encoding(name):
    time, x = CONFIGS[name].ratio[0], clip(name)
    whole = encode(drawn(name), x)
    assert np.abs(whole).std() > 1e-3
    for kept in (1, 2):
        part = encode(drawn(name), x[:, : 1 + (kept - 1) * time])
        np.testing.assert_allclose(part, whole[:, :kept], atol=CAUSAL, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_decoding_of_a_prefix_is_the_prefix_of_the_decoding(name):
    config, rng = CONFIGS[name], np.random.default_rng(2)
    z = rng.normal(size=(1, 3, 2, 3, config.channels)).astype(np.float32)
    whole = decode(drawn(name), z)
    for kept in (1, 2):
        part = decode(drawn(name), z[:, :kept])
        np.testing.assert_allclose(part, whole[:, : 1 + (kept - 1) * config.ratio[0]], atol=CAUSAL, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_later_frame_changes_later_latents_and_only_those(name):
    """Causality would be trivial if frames did not see each other at all."""
    time, x = CONFIGS[name].ratio[0], clip(name)
    whole = encode(drawn(name), x)
    for frame in (0, 1, x.shape[1] - 1):
        moved = np.abs(encode(drawn(name), x.at[:, frame].add(0.5)) - whole).max((0, 2, 3, 4))
        first = -(-frame // time)
        assert (moved[:first] <= CAUSAL).all() and (moved[first:] > 10 * CAUSAL).all(), (frame, moved)
    moved = np.abs(decode(drawn(name), whole.at[:, 1].add(0.5)) - decode(drawn(name), whole)).max((0, 2, 3, 4))
    assert (moved[:1] <= CAUSAL).all() and (moved[1:] > 10 * CAUSAL).all(), moved


def test_an_image_is_a_clip_of_one_frame():
    image = clip("4x8x8")[:, :1]
    assert encode(drawn("4x8x8"), image).shape == (1, 1, 2, 3, 4)
    assert decode(drawn("4x8x8"), encode(drawn("4x8x8"), image)).shape == image.shape


def test_a_clip_larger_than_any_in_training_is_the_same_function():
    """No layer knows the size of the picture: away from the border a crop is encoded as it is in the whole."""
    config, x = CONFIGS["2x4x4"], np.random.default_rng(3).uniform(-1, 1, (1, 3, 64, 64, 3)).astype(np.float32)
    whole, part = encode(drawn("2x4x4"), x), encode(drawn("2x4x4"), x[:, :, :48, :48])
    assert whole.shape == (1, *video_vae.latent_shape(config, 3, 64, 64))
    np.testing.assert_allclose(part[:, :, :8, :8], whole[:, :, :8, :8], atol=CAUSAL)


@pytest.mark.parametrize("frames, height, width, words", [
    (16, 64, 64, "data.frames=16: the VAE needs 1 + 4k frames; use 17"),
    (2, 64, 64, "data.frames=2: the VAE needs 1 + 4k frames; use 1"),
    (17, 60, 64, "data.height=60 is not a multiple of the VAE's 8; use 64"),
    (17, 64, 65, "data.width=65 is not a multiple of the VAE's 8; use 64"),
    (17, 4, 64, "data.height=4 is not a multiple of the VAE's 8; use 8"),
    (17, 0, 64, "data.height=0 is not a multiple of the VAE's 8; use 8"),
    (0, 64, 64, "data.frames=0: the VAE needs 1 + 4k frames; use 1"),
    (-3, 64, 64, "data.frames=-3: the VAE needs 1 + 4k frames; use 1"),
])
def test_a_size_that_does_not_compress_is_refused_with_one_that_does(frames, height, width, words):
    with pytest.raises(ConfigError) as caught:
        video_vae.latent_shape(CONFIGS["4x8x8"], frames, height, width)
    assert str(caught.value) == words
    cure = int(words.rpartition(" ")[2])
    name = words.partition("=")[0].removeprefix("data.")
    video_vae.latent_shape(CONFIGS["4x8x8"], **{"frames": frames, "height": height, "width": width, name: cure})


def test_a_stage_without_a_width_is_refused():
    with pytest.raises(ConfigError, match=r"vae.encoder=\(8, 8\) and .* one width per stage.*: 3 stages here"):
        Config(time=(2, 2), space=(2, 1), encoder=(8, 8), decoder=(8, 8))


def convolution_flops(jaxpr):
    """FLOPs of every convolution and matmul of a program."""
    total = 0
    for equation in jaxpr.eqns:
        out = math.prod(equation.outvars[0].aval.shape)
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            total += 2 * out * math.prod(equation.invars[0].aval.shape[i] for i in contracted)
        elif equation.primitive.name == "conv_general_dilated":
            kernel, numbers = equation.invars[1].aval.shape, equation.params["dimension_numbers"]
            total += 2 * out * math.prod(kernel[i] for i in numbers.rhs_spec[1:])
        for value in equation.params.values():
            body = getattr(value, "jaxpr", value)
            total += convolution_flops(body) if hasattr(body, "eqns") else 0
    return total


@pytest.mark.parametrize("impl", ["taps", "native"])
@pytest.mark.parametrize("config", [*CONFIGS.values(), *OPTIONS.values(), Config()],
                         ids=[*CONFIGS, *OPTIONS, "default"])
def test_flops_are_what_the_program_does(config, impl):
    config = Config(**{**vars(config), "conv": impl})
    graph, params = nnx.split(nnx.eval_shape(lambda: video_vae.build(config, rngs=nnx.Rngs(0))))
    time, high, wide = config.ratio
    x = jax.ShapeDtypeStruct((1, 1 + 2 * time, 2 * high, 3 * wide, 3), jnp.float32)
    z = jax.ShapeDtypeStruct((1, 3, 2, 3, config.channels), jnp.float32)
    expected = video_vae.flops(config, *x.shape[1:4])
    for side, given in (("encoder", x), ("decoder", z)):
        program = jax.make_jaxpr(lambda p, a: getattr(nnx.merge(graph, p), side)(a))(params, given)  # noqa: B023
        assert convolution_flops(program.jaxpr) == expected[side]


def test_flops_refuse_a_clip_that_does_not_fit():
    with pytest.raises(ConfigError, match="data.frames=16"):
        video_vae.flops(Config(), 16, 64, 64)


@pytest.fixture(scope="module")
def fresh():
    return jax.jit(lambda: video_vae.build(CONFIGS["2x4x4"], rngs=nnx.Rngs(0)))()


@jax.jit
def reconstruct(vae, x, key):
    return vae(x, key)


def test_a_fresh_autoencoder_is_calm(fresh):
    """Statistics of zero and one, a narrow posterior, and signals of order one all the way."""
    assert not fresh.mean[...].any() and (fresh.std[...] == 1).all()
    back, mean, logvar = reconstruct(fresh, clip("2x4x4"), jax.random.key(0))
    np.testing.assert_allclose(encode(fresh, clip("2x4x4")), mean, atol=CAUSAL)
    assert abs(float(logvar.mean()) - video_vae.START_LOGVAR) < 1
    assert 0.01 < float(jnp.std(mean)) < 10 and 0.01 < float(jnp.std(back)) < 3


def test_statistics_scale_the_latents_and_unscale_them(fresh):
    graph, params = nnx.split(fresh)
    statistics = {"mean": jnp.full(4, 0.5), "std": jnp.full(4, 3.0)}
    scaled = nnx.merge(graph, nnx.State({**nnx.to_pure_dict(params), **statistics}))
    raw, z = encode(fresh, clip("2x4x4")), encode(scaled, clip("2x4x4"))
    np.testing.assert_allclose(z, (raw - 0.5) / 3, atol=CAUSAL)
    np.testing.assert_allclose(decode(scaled, z), decode(fresh, raw), atol=AGREE)


def test_the_posterior_is_sampled_with_its_own_width(fresh):
    """The decoder replaced by nothing, a clip 4096 times with other keys: mean and width are those of the moments."""
    def samples(vae, x, keys):
        vae.decoder = lambda z: z
        return jax.lax.map(lambda key: vae(x, key)[0], keys), *vae(x, keys[0])[1:]

    keys = jax.random.split(jax.random.key(0), 4096)
    drawn, mean, logvar = jax.jit(samples)(fresh, clip("2x4x4", 0), keys)
    np.testing.assert_allclose(drawn.mean(0), mean, atol=0.01)
    np.testing.assert_allclose(drawn.std(0), jnp.exp(0.5 * logvar), rtol=0.08)


def passed(impl):
    """Reconstruction and gradient of a clip that goes through an autoencoder with these convolutions."""
    config, x = Config(**{**vars(CONFIGS["2x4x4"]), "conv": impl}), clip("2x4x4", 1)
    graph = nnx.split(nnx.eval_shape(lambda: video_vae.build(config, rngs=nnx.Rngs(0))))[0]

    def value(params):
        model = nnx.merge(graph, params)
        back = model.decode(model.encode(x))
        return jnp.mean((back - x) ** 2), back

    (_, back), gradient = jax.jit(jax.value_and_grad(value, has_aux=True))(nnx.state(drawn("2x4x4")))
    return back, jax.tree.leaves(gradient)


def test_taps_and_native_are_one_model():
    (one, slopes), (other, others) = passed("taps"), passed("native")
    assert np.abs(one).max() > 0.01
    np.testing.assert_allclose(one, other, atol=AGREE)
    for a, b in zip(slopes, others, strict=True):
        np.testing.assert_allclose(a, b, atol=AGREE * max(1.0, float(np.abs(b).max())))
