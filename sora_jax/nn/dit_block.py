"""The block of the spacetime transformer, with every variant that a config names; fresh tokens pass as the papers say.

Modulation: "block" is adaLN-Zero (Peebles and Xie 2023, section 3.2), "single" one projection for all blocks plus a
table in each (PixArt-alpha, Chen et al. 2023, section 2.3). Text: "cross"-attention, "joint" attention of two streams
(MMDiT, Esser et al. 2024, section 4), a "prefix" of tokens, or "none". MLP: GELU or SwiGLU (Shazeer 2020).
"""
from typing import NamedTuple

import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from sora_jax.nn.attention import attention
from sora_jax.nn.axes import param
from sora_jax.nn.groups import Groups, gather, scatter
from sora_jax.nn.linear import Linear
from sora_jax.nn.norm import LayerNorm, RMSNorm, layer_norm, modulate
from sora_jax.nn.rope import Rotation, rotate

ZEROS = nnx.initializers.zeros


class Context(NamedTuple):
    """What all blocks read. `condition` is what adaLN projects, or with "single" its projection; `level` the row of it
    that each token has, `text_level` that of each state of the caption. `rotary`: None turns nothing. `states` of the
    caption, of which tokens read the `visible`; tokens see one another through `mask`, or in groups `among` them."""

    condition: Float[Array, "b k _c"]
    level: Int[Array, "b n"]
    rotary: Rotation | None
    states: Float[Array, "b m _t"] | None = None
    visible: Bool[Array, "b _n m"] | None = None
    text_level: Int[Array, "b m"] | None = None
    mask: Bool[Array, "b _n _m"] | None = None
    among: Groups | None = None


def select(modulation: Float[Array, "b k d"], level: Int[Array, "b n"]) -> Float[Array, "b _ d"]:
    """Each token's row of `modulation`, by comparison: a gather's gradient is a scatter, slow on every backend."""
    if modulation.shape[1] == 1:
        return modulation
    chosen = level[:, :, None] == jnp.arange(modulation.shape[1])
    if modulation.shape[1] > 4:
        return jnp.einsum("bnk,bkd->bnd", chosen.astype(modulation.dtype), modulation)
    return sum(jnp.where(chosen[:, :, i, None], modulation[:, i, None], 0) for i in range(modulation.shape[1]))


class Block(nnx.Module):
    """Self-attention and MLP, both modulated and gated, with cross-attention to the caption between them; with "joint"
    text the caption is a second stream with weights of its own. `config` is that of `models.dit`."""

    def __init__(self, config, *, rngs: nnx.Rngs):
        d, self.config = config.width, config
        self._modulate("modulation", rngs)
        self.qkv = Linear(d, 3 * d, axes=("embed", "heads"), rngs=rngs)
        self.out = Linear(d, d, axes=("heads", "embed"), rngs=rngs)
        if config.text == "cross":
            self.cross_q = Linear(d, d, axes=("embed", "heads"), rngs=rngs)
            self.cross_kv = Linear(config.states_width, 2 * d, axes=("in", "heads"), rngs=rngs)
            self.cross_out = Linear(d, d, axes=("heads", "embed"), init=ZEROS, rngs=rngs)
        self.up = Linear(d, config.rise, axes=("embed", "mlp"), rngs=rngs)
        self.down = Linear(config.hidden_width, d, axes=("mlp", "embed"), rngs=rngs)
        self._norm(("norm_q", "norm_k"), rngs)
        if config.text == "cross":
            self._norm(("norm_cross_q", "norm_cross_k"), rngs)
        if config.cross_norm:
            self.cross_norm = LayerNorm(d, axis="embed", rngs=rngs)
        if config.text == "joint":
            self._modulate("text_modulation", rngs)
            self.text_qkv = Linear(d, 3 * d, axes=("embed", "heads"), rngs=rngs)
            self.text_out = Linear(d, d, axes=("heads", "embed"), rngs=rngs)
            self.text_up = Linear(d, config.rise, axes=("embed", "mlp"), rngs=rngs)
            self.text_down = Linear(config.hidden_width, d, axes=("mlp", "embed"), rngs=rngs)
            self._norm(("norm_text_q", "norm_text_k"), rngs)

    def _modulate(self, name: str, rngs: nnx.Rngs) -> None:
        d = self.config.width
        if self.config.modulation == "block":
            setattr(self, name, Linear(d, 6 * d, axes=("in", "embed"), init=ZEROS, rngs=rngs))
        else:
            setattr(self, name, param(rngs.params(), nnx.initializers.normal(d ** -0.5), (6, d), (None, "embed")))

    def _norm(self, names: tuple[str, ...], rngs: nnx.Rngs) -> None:
        """Gains of queries and keys: one for each number of a head, shared by heads, or one for each of all."""
        if self.config.qk_norm != "none":
            width = self.config.width // (self.config.heads if self.config.qk_norm == "head" else 1)
            for name in names:
                setattr(self, name, RMSNorm(width, rngs=rngs))

    def __call__(self, x, context: Context):
        """Tokens `b n d` in and out; with "joint" text a pair of them and the caption's states `b m d`."""
        if self.config.text == "joint":
            return self.both(*x, context)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulations("modulation", context)
        x = x + gate_a * self.attend(modulate(layer_norm(x), shift_a, scale_a), context)
        if self.config.text == "cross":
            x = x + self.read(self.cross_norm(x) if self.config.cross_norm else layer_norm(x), context)
        return x + gate_m * self.think(modulate(layer_norm(x), shift_m, scale_m), self.up, self.down)

    def both(self, x: Float[Array, "b n d"], y: Float[Array, "b m d"],
             context: Context) -> tuple[Float[Array, "b n d"], Float[Array, "b m d"]]:
        """One attention over tokens and caption, everything else apart."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulations("modulation", context)
        shift_b, scale_b, gate_b, shift_t, scale_t, gate_t = self.modulations("text_modulation", context)
        seen = self.parts(modulate(layer_norm(x), shift_a, scale_a), self.qkv, "norm")
        if context.rotary is not None:
            seen = (*(rotate(part, context.rotary) for part in seen[:2]), seen[2])
        read = self.parts(modulate(layer_norm(y), shift_b, scale_b), self.text_qkv, "norm_text")
        q, k, v = (jnp.concatenate(pair, axis=1) for pair in zip(seen, read, strict=True))
        mixed = rearrange(attention(q, k, v, context.mask), "b n a e -> b n (a e)")
        x = x + gate_a * self.out(mixed[:, :x.shape[1]])
        y = y + gate_b * self.text_out(mixed[:, x.shape[1]:])
        x = x + gate_m * self.think(modulate(layer_norm(x), shift_m, scale_m), self.up, self.down)
        return x, y + gate_t * self.think(modulate(layer_norm(y), shift_t, scale_t), self.text_up, self.text_down)

    def modulations(self, name: str, context: Context) -> tuple[Float[Array, "b _ d"], ...]:
        """Shift, scale and gate of attention and of the MLP, each token's own."""
        level = context.level if name == "modulation" else context.text_level
        layer = getattr(self, name)
        if self.config.modulation == "block":
            rows = layer.stored(context.condition)
        else:
            rows = context.condition + layer[...].reshape(-1).astype(context.condition.dtype)
        return tuple(select(part, level) for part in jnp.split(rows, 6, axis=-1))

    def parts(self, x: Float[Array, "b n d"], qkv: Linear, norm: str) -> tuple[Float[Array, "b n a e"], ...]:
        """Queries, keys and values in heads, the first two normalised."""
        return self.normalised([*jnp.split(qkv(x), 3, axis=-1)], norm)

    def normalised(self, parts: list[Float[Array, "b _n d"]], norm: str) -> tuple[Float[Array, "b _n a e"], ...]:
        """Queries, keys and values `b n d` in heads, the first two normalised as the config says."""
        gains = [] if self.config.qk_norm == "none" else [getattr(self, f"{norm}_{name}") for name in "qk"]
        if self.config.qk_norm == "full":
            parts[:2] = [gain(part) for gain, part in zip(gains, parts, strict=False)]
        heads = [rearrange(part, "b n (a e) -> b n a e", a=self.config.heads) for part in parts]
        if self.config.qk_norm == "head":
            heads[:2] = [gain(part) for gain, part in zip(gains, heads, strict=False)]
        return tuple(heads)

    def attend(self, x: Float[Array, "b n d"], context: Context) -> Float[Array, "b n d"]:
        """Self-attention of tokens that may see one another."""
        q, k, v = self.parts(x, self.qkv, "norm")
        if context.rotary is not None:
            q, k = rotate(q, context.rotary), rotate(k, context.rotary)
        mixed = attention(q, k, v, context.mask) if context.among is None else within(q, k, v, context.among)
        return self.out(rearrange(mixed, "b n a e -> b n (a e)"))

    def read(self, x: Float[Array, "b n d"], context: Context) -> Float[Array, "b n d"]:
        """Cross-attention from tokens to caption states."""
        parts = [self.cross_q(x), *jnp.split(self.cross_kv(context.states), 2, axis=-1)]
        q, k, v = self.normalised(parts, "norm_cross")
        return self.cross_out(rearrange(attention(q, k, v, context.visible), "b n a e -> b n (a e)"))

    def think(self, x: Float[Array, "b n d"], up: Linear, down: Linear) -> Float[Array, "b n d"]:
        """The MLP; SwiGLU gates one half of the risen stream with the other."""
        if self.config.mlp == "gelu":
            return down(nnx.gelu(up(x)))
        gate, value = jnp.split(up(x), 2, axis=-1)
        return down(nnx.silu(gate) * value)


def within(q: Float[Array, "b n a e"], k: Float[Array, "b n a e"], v: Float[Array, "b n a e"],
           among: Groups) -> Float[Array, "b n a e"]:
    """Attention inside groups of tokens, which need not be of one size."""
    q, k, v = (rearrange(gather(x, among), "b g s a e -> (b g) s a e") for x in (q, k, v))
    count = len(among.index)
    real = None if among.real.all() else jnp.tile(jnp.asarray(among.real), (len(q) // count, 1))[:, None]
    return scatter(rearrange(attention(q, k, v, real), "(b g) s a e -> b g s a e", g=count), among)
