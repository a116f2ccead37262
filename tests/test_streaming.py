"""An autoencoder fed chunk by chunk is the autoencoder of the whole clip, whatever the chunks, and needs no more memory
for a longer clip."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sora_jax import coder, registry, streaming, video
from sora_jax.types import InputError

STREAMED = 1e-5
GROWTH = 1.1
TINY = {"patch": 2, "channels": 3, "encoder": (4, 6), "decoder": (6, 4)}
MEMBERS = {
    "time 2,2": ("video_vae", {**TINY, "time": (2, 2), "space": (2, 1), "encoder": (4, 6, 6), "decoder": (4, 6, 6)}),
    "time 2": ("video_vae", {**TINY, "time": (2,), "space": (2,)}),
    "time 1,2": ("video_vae", {**TINY, "time": (1, 2), "space": (1, 2), "encoder": (4, 6, 6), "decoder": (4, 6, 6)}),
    "time 4": ("video_vae", {**TINY, "time": (4,), "space": (1,)}),
    "wan, time 1,2": ("wan_vae", {"channels": 3, "time": (1, 2), "space": (2, 2), "encoder": (4, 4, 6),
                                  "decoder": (4, 4, 6), "blocks": 1}),
}
CASES = [(name, chunk) for name in MEMBERS for chunk in ((1, 2, 3, 8) if name == "time 2,2" else (3,))]


@functools.lru_cache
def drawn(name):
    """An autoencoder whose every weight is noise, so that no zero hides a lost cache."""
    member, fields = MEMBERS[name]
    module = registry.load("models", member)
    graph, shapes = nnx.split(nnx.eval_shape(lambda: module.build(module.Config(**fields), rngs=nnx.Rngs(0))))
    rng = np.random.default_rng(0)
    noisy = [jnp.asarray(rng.normal(size=leaf.shape, scale=leaf.size**-0.25).astype(np.float32))
             for leaf in jax.tree.leaves(shapes)]
    return nnx.merge(graph, jax.tree.unflatten(jax.tree.structure(shapes), noisy))


@functools.lru_cache
def whole(name, count=8):
    """(clip, its latents, their pixels) of `count` latent frames, all at once."""
    vae = drawn(name)
    time, high, wide = vae.config.ratio
    shape = (1, 1 + (count - 1) * time, 2 * high, 3 * wide, 3)
    x = np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)
    z, _ = coder.encode_chunk(vae, x, None)
    return x, np.asarray(z), np.asarray(coder.decode_chunk(vae, z, None)[0])


def largest(a, b):
    """The largest difference, relative to 1 or to the largest value if that is more."""
    return float(np.abs(a - b).max() / max(1.0, np.abs(b).max()))


@pytest.mark.parametrize("name, chunk", CASES)
def test_chunks_side_by_side_are_the_whole(name, chunk):
    vae, (x, z, back) = drawn(name), whole(name)
    assert np.abs(z).std() > 1e-3 and np.abs(back).std() > 1e-3
    coded, decoded = streaming.encode(vae, x, chunk), streaming.decode(vae, z, chunk)
    print(f"{name}, {chunk} latent frames: encode {largest(coded, z):.1e}, decode {largest(decoded, back):.1e}")
    assert coded.shape == z.shape and largest(coded, z) <= STREAMED
    assert decoded.shape == back.shape == x.shape and largest(decoded, back) <= STREAMED


@pytest.mark.parametrize("name", MEMBERS)
def test_without_the_cache_it_is_another_function(name):
    """The equality above would be empty if frames did not see each other across the edge of a chunk."""
    vae, (x, z, back) = drawn(name), whole(name)
    time = vae.config.ratio[0]
    lost = coder.decode_chunk(vae, z[:, 3:6], None)[0]
    assert largest(lost[:, :1], back[:, 3 * time : 3 * time + 1]) > 100 * STREAMED
    lost = coder.encode_chunk(vae, x[:, 3 * time : 5 * time + 1], None)[0]
    assert largest(lost[:, 1:2], z[:, 4:5]) > 100 * STREAMED


@pytest.mark.parametrize("name", MEMBERS)
def test_an_image_is_the_first_frame_and_a_prefix_the_prefix(name):
    vae, (x, z, back) = drawn(name), whole(name)
    time = vae.config.ratio[0]
    for kept in (1, 3):
        frames = 1 + (kept - 1) * time
        assert largest(streaming.encode(vae, x[:, :frames], 3), z[:, :kept]) <= STREAMED
        assert largest(streaming.decode(vae, z[:, :kept], 3), back[:, :frames]) <= STREAMED


def test_pixels_may_be_bytes():
    vae, (x, _, _) = drawn("time 2"), whole("time 2")
    pixels = video.to_uint8(x)
    np.testing.assert_allclose(streaming.encode(vae, pixels, 3), streaming.encode(vae, video.to_float(pixels), 3),
                               atol=STREAMED)


def held(vae, step, parts):
    """The most bytes that jax holds while a clip goes through."""
    most = 0
    for _ in step(vae, parts):
        most = max(most, sum(array.nbytes for array in jax.live_arrays()))
    return most


def test_a_longer_clip_needs_no_more_memory():
    vae, (x, z, _) = drawn("time 2,2"), whole("time 2,2")
    time = vae.config.ratio[0]
    short, long = (held(vae, streaming.encoded, [x[:, :1], *[x[:, 1 : 1 + time]] * count]) for count in (4, 64))
    assert long < GROWTH * short
    short, long = (held(vae, streaming.decoded, [z[:, :1]] * count) for count in (4, 64))
    assert long < GROWTH * short


@pytest.mark.parametrize("frames, words", [
    ((4,), "chunk 0 of the clip has 4 frames; the autoencoder needs 1 + 4k: use 1 or 5"),
    ((1, 3), "chunk 1 of the clip has 3 frames; the autoencoder needs 4k: use 4"),
    ((1, 0), "chunk 1 of the clip has 0 frames; the autoencoder needs 4k: use 4"),
])
def test_a_chunk_that_does_not_compress_is_refused(frames, words):
    vae, (x, _, _) = drawn("time 2,2"), whole("time 2,2")
    with pytest.raises(InputError) as caught:
        list(streaming.encoded(vae, [x[:, :count] for count in frames]))
    assert str(caught.value) == words


def test_a_clip_that_cannot_be_cut_is_refused_before_it_begins(monkeypatch):
    vae, (x, z, _) = drawn("time 2,2"), whole("time 2,2")
    monkeypatch.setattr(streaming, "_passed", lambda *_: pytest.fail("began"))
    with pytest.raises(InputError, match=r"the clip has 6 frames; the autoencoder needs 1 \+ 4k: use 5 or 9"):
        streaming.encode(vae, x[:, :6], 1)
    for call, frames, chunk, words in ((streaming.encode, x, 0, "chunks of 0"), (streaming.decode, z, -1, "of -1"),
                                       (streaming.decode, z[:, :0], 1, "of shape")):
        with pytest.raises(InputError, match=words):
            call(vae, frames, chunk)
