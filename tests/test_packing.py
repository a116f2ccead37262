"""Clips of any sizes in rows: nothing is lost, little is wasted, and a row is what its clips are alone."""
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from sora_jax import collate, packing
from sora_jax.diffusion import levels, masks, matching, packed
from sora_jax.models import dit
from sora_jax.nn.patch import grid, patchify, positions
from sora_jax.objectives import ddpm, edm, flow
from sora_jax.types import ConfigError, InputError

SAME = 1e-5
SIZES = ((3, 4, 4), (1, 8, 6), (5, 2, 4), (1, 4, 4), (2, 6, 2), (3, 4, 2))  # latents; six clips of six sizes
PATCH = (1, 2, 2)
MIX = {(5, 8, 8): 400, (5, 6, 10): 250, (3, 8, 8): 150, (5, 4, 4): 300, (2, 10, 6): 100, (1, 8, 8): 500,
       (1, 6, 10): 300}


class Folder:
    """Latents of one size as a source gives them."""

    def __init__(self, shape, count, seed=0):
        self.meta = {"shape": [*shape, 3], "vae_hash": "a", "length": tiny.TEXT.length}
        self.count, self.seed = count, seed
        self.path = f"folder of {shape}"

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        rng = np.random.default_rng((self.seed, i))
        text = np.zeros(tiny.TEXT.length, np.uint8)
        text[:5] = rng.integers(97, 122, 5)
        return {"x": rng.normal(size=self.meta["shape"]).astype(np.float32), "text": text, "mask": text > 0}


@functools.lru_cache
def rows(tokens=40, most=4):
    return packing.Packed([Folder(size, 1, k) for k, size in enumerate(SIZES)], PATCH, tokens, most)


def test_every_clip_is_in_one_row_once_and_no_row_is_too_long():
    rng = np.random.default_rng(0)
    for most in (1, 3, 8):
        lengths = rng.integers(1, 100, 1300).tolist()
        made = packing.fit(lengths, 100, most)
        assert sorted(clip for row in made for clip in row) == list(range(1300))
        assert all(sum(lengths[clip] for clip in row) <= 100 and 1 <= len(row) <= most for row in made)
        assert made == packing.fit(lengths, 100, most)
    assert packing.fit([60, 40, 50, 50], 100, 2) == [[0, 1], [2, 3]]


def test_nine_tenths_of_the_tokens_are_useful():
    """A mix of films and pictures of seven sizes: rows of 320 tokens against buckets and padding."""
    order = np.random.default_rng(1).permutation(sum(MIX.values()))
    sizes = [size for size, count in MIX.items() for _ in range(count)]
    sizes = [sizes[i] for i in order]
    lengths = [int(np.prod(size)) // 4 for size in sizes]
    made, buckets, padded = (packing.packed(lengths, 320, 16), packing.bucketed(sizes, lengths, 320),
                             packing.padded(lengths))
    print(made, buckets, padded)
    assert made.useful >= 0.9 and made.programs == 1 and buckets.programs == 7
    assert padded.useful < 0.7 and buckets.useful <= 1
    again = [lengths[i] for i in np.argsort(np.random.default_rng(1).permutation(2000))]
    again = [again[i] for i in np.random.default_rng((29, 0)).permutation(2000)]
    table = packing.table([tuple(a // b for a, b in zip(size, PATCH, strict=True)) for size in MIX], list(MIX.values()),
                          320, 16)
    assert f"packed{packing.packed(again, 320, 16).useful:10.1%}{1:10}" in table and f"{7:10}" in table


def test_rows_hold_the_tokens_of_their_clips():
    source, seen = rows(), []
    for row, item in zip(source.rows, (source[i] for i in range(len(source))), strict=True):
        start = 0
        for k, (folder, i) in enumerate(row.clips):
            clip = source.sources[folder][i]
            layout = grid(clip["x"].shape[:3], PATCH)
            here = slice(start, start + int(np.prod(layout)))
            np.testing.assert_array_equal(item["tokens"][here], patchify(jnp.asarray(clip["x"][None]), PATCH)[0])
            np.testing.assert_array_equal(item["positions"][here], positions(layout))
            assert (item["segments"][here] == k).all() and (item["text"][k] == clip["text"]).all()
            start, seen = here.stop, [*seen, folder]
        assert (item["segments"][start:] == -1).all() and not item["mask"][len(row.clips):].any()
    assert sorted(seen) == list(range(len(SIZES)))
    assert source.clips_per_row == 6 / len(source) and source.useful == sum(source.lengths) / (40 * len(source))


def batch():
    source = rows()
    return jax.tree.map(jnp.asarray, collate.rows([source[i] for i in range(len(source))]))


@pytest.mark.parametrize("objective", [flow.Objective(), ddpm.Objective(), edm.Objective()],
                         ids=["flow", "ddpm", "edm"])
def test_a_row_has_the_errors_of_its_clips(key, objective):
    """Six clips of six sizes, each with a time of its own, some tokens known: every token's error is what it is when
    the clip stands alone."""
    source, packed_rows, model = rows(), batch(), tiny.model(scale=0.15)
    t = jax.random.uniform(key, packed_rows.text.shape[:2], minval=0.1)
    eps = jax.random.normal(key, packed_rows.tokens.shape)
    given = (packed_rows.positions[..., 0] == 0) & (packed_rows.segments % 2 == 0) & (packed_rows.segments >= 0)
    together = jax.jit(lambda model, *x: packed.token_errors(objective, model, *x))(model, packed_rows, eps, t, given)
    for r, row in enumerate(source.rows):
        for k, (folder, i) in enumerate(row.clips):
            clip, here = source.sources[folder][i], np.asarray(packed_rows.segments[r] == k)
            x = jnp.asarray(clip["x"][None])
            tokens, places = model.tokenise(x)

            text, mask = (jnp.asarray(clip[name][None]) for name in ("text", "mask"))

            def predict(xt, levels, level, text=text, mask=mask, places=places):
                return model(xt, places, levels, level, text, mask)

            mine = given[r, here][None]
            alone = matching.token_errors(predict, objective.path, objective.kind, tokens, eps[r, here][None], mine,
                                          levels.two(t[r, k][None], mine, jnp.zeros(1)))
            np.testing.assert_allclose(together[r, here], alone[0], rtol=20 * SAME, atol=SAME)


@pytest.mark.parametrize("objective", [flow.Objective(shift_tokens=8), ddpm.Objective(shift_tokens=8)],
                         ids=["flow", "ddpm"])
def test_the_loss_of_rows_trains_and_counts_no_padding(key, objective):
    model = tiny.model(scale=0.15)
    clean = batch()
    dirty = clean._replace(tokens=jnp.where(clean.segments[..., None] < 0, 1e3, clean.tokens))
    ask = jax.jit(lambda model, rows: objective.loss(model, rows, key))
    (loss, scalars), (other, _) = ask(model, clean), ask(model, dirty)
    assert jnp.isfinite(loss) and loss == pytest.approx(float(other), rel=SAME)
    assert scalars["useful_tokens"] == pytest.approx(rows().useful)
    graph, params = nnx.split(model)
    grads = jax.jit(jax.grad(lambda p: objective.loss(nnx.merge(graph, p), clean, key)[0]))(params)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_flops_of_a_row_are_those_of_the_program():
    for change in ({}, {"attention": "factorised"}, {"text": "prefix", "pooled": "none"}):
        config, one = dataclasses.replace(tiny.CONFIG, **change), jax.tree.map(lambda x: x[:1], batch())
        times, level = jnp.ones((1, 8)), 2 * jnp.maximum(one.segments, 0)
        traced = jax.make_jaxpr(lambda *x, config=config: tiny.fresh(config)(*x))(
            one.tokens, one.positions, times, level, one.text, one.mask, one.segments)
        counted = sum(dit.flops(config, tiny.TEXT, 40, levels=8, captions=4).values())
        assert tiny.matmul_flops(traced.jaxpr) - counted == spread(config) + tiny.bias_flops(config, 8)


def spread(config):
    """What giving 40 tokens (and, in a prefix, 16 states) their rows of adaLN costs where there are 8 levels: a sum
    over levels, not counted, for it is a choice."""
    rows = 40 + (16 if config.text == "prefix" else 0)
    return 2 * 8 * config.width * (6 * config.depth * rows + 2 * 40)


def test_one_program_for_all_sizes(key):
    """Other clips, other sizes, other numbers of them: nothing is compiled again."""
    objective, model = flow.Objective(), tiny.model()
    ask = jax.jit(lambda model, rows: objective.loss(model, rows, key)[0])
    for sizes in (SIZES, SIZES[:2], ((1, 2, 2),)):
        source = packing.Packed([Folder(size, 2) for size in sizes], PATCH, 40, 4)
        ask(model, jax.tree.map(jnp.asarray, collate.rows([source[0]])))
    assert ask._cache_size() == 1


@pytest.mark.parametrize("pattern", masks.PATTERNS)
def test_known_tokens_are_those_of_each_clip(key, pattern):
    rows_, only = batch(), tuple(float(pattern == other) for other in masks.PATTERNS)
    given = np.asarray(masks.random_known_packed(key, rows_.positions, rows_.segments, 4, only))
    segments, frame = np.asarray(rows_.segments), np.asarray(rows_.positions[..., 0])
    assert not given[segments < 0].any()
    for r in range(len(segments)):
        for k in range(segments[r].max() + 1):
            mine = segments[r] == k
            first, last = frame[r] == 0, frame[r] == frame[r][mine].max()
            want = {"none": first & False, "first": first, "last": last, "ends": first | last}.get(pattern)
            if want is not None:
                np.testing.assert_array_equal(given[r][mine], want[mine] & ~want[mine].all())
            assert not given[r][mine].all()


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="a clip of 12 tokens does not fit into train.pack_tokens=8"):
        rows(8)
    with pytest.raises(InputError, match=r"^folder of \(3, 4, 4\): model.patch=\(1, 3, 2\) does not divide"):
        packing.Packed([Folder((3, 4, 4), 1)], (1, 3, 2), 40, 4)
