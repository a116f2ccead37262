"""Spacetime diffusion transformer: tokens that know where they are and how noisy they are, and a caption.

Enters: patches `b n p`, positions `b n 3`, the noise levels `b k` of each clip and which of them each token has.
Leaves: the prediction per token. adaLN-Zero blocks (Peebles and Xie 2023, section 3.2) with text cross-attention
(PixArt-alpha, Chen et al. 2023, section 2.2), RMS-normalised queries and keys, and rotary positions on three axes.
"""
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from einops import rearrange, repeat
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, UInt8

from sora_jax.nn.attention import attention
from sora_jax.nn.embed import sincos, timestep
from sora_jax.nn.linear import Linear
from sora_jax.nn.norm import RMSNorm, layer_norm, modulate
from sora_jax.nn.patch import grid, patchify, positions, unpatchify
from sora_jax.nn.rope import Rotation, rotate, rotation
from sora_jax.types import ConfigError

States = tuple[Float[Array, "b m c"], Bool[Array, "b m"]]
ZEROS = nnx.initializers.zeros
NORMAL = nnx.initializers.normal(0.02)
REMAT = {"none": None, "full": jax.checkpoint_policies.nothing_saveable,
         "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable}


@dataclass(frozen=True)
class Config:
    """Sizes and switches. `remat`: none | full | dots. `dtype`: of activations; parameters stay fp32."""

    width: int = 256
    depth: int = 8
    heads: int = 4
    patch: tuple[int, int, int] = (1, 2, 2)
    channels: int = 16
    mlp_ratio: int = 4
    text_width: int = 128
    time_width: int = 256
    qk_norm: bool = True
    rope_theta: float = 100.0
    absolute: bool = True
    remat: str = "dots"
    scan: bool = True
    dtype: str = "float32"

    def __post_init__(self):
        if self.width % self.heads or self.width // self.heads % 2:
            raise ConfigError(f"model.width={self.width} with model.heads={self.heads} gives heads of "
                              f"{self.width / self.heads:g}; choose an even head width")
        if self.remat not in REMAT:
            raise ConfigError(f"model.remat={self.remat!r} is not one of {', '.join(REMAT)}")
        if self.dtype not in ("float32", "bfloat16"):
            raise ConfigError(f"model.dtype={self.dtype!r} is not one of float32, bfloat16")

    @property
    def elements(self) -> int:
        """Latent elements p in one token."""
        return self.patch[0] * self.patch[1] * self.patch[2] * self.channels


def select(modulation: Float[Array, "b k d"], level: Int[Array, "b n"]) -> Float[Array, "b _ d"]:
    """Each token's row of `modulation`, by comparison: a gather's gradient is a scatter, slow on every backend."""
    if modulation.shape[1] == 1:
        return modulation
    chosen = level[:, :, None] == jnp.arange(modulation.shape[1])
    if modulation.shape[1] > 4:
        return jnp.einsum("bnk,bkd->bnd", chosen.astype(modulation.dtype), modulation)
    return sum(jnp.where(chosen[:, :, i, None], modulation[:, i, None], 0) for i in range(modulation.shape[1]))


class Block(nnx.Module):
    """Self-attention and MLP gated by adaLN-Zero, with text cross-attention between them."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        d, hidden, self.config = config.width, config.mlp_ratio * config.width, config
        self.modulation = Linear(d, 6 * d, axes=("in", "embed"), init=ZEROS, rngs=rngs)
        self.qkv = Linear(d, 3 * d, axes=("embed", "heads"), rngs=rngs)
        self.out = Linear(d, d, axes=("heads", "embed"), rngs=rngs)
        self.cross_q = Linear(d, d, axes=("embed", "heads"), rngs=rngs)
        self.cross_kv = Linear(config.text_width, 2 * d, axes=("in", "heads"), rngs=rngs)
        self.cross_out = Linear(d, d, axes=("heads", "embed"), init=ZEROS, rngs=rngs)
        self.up = Linear(d, hidden, axes=("embed", "mlp"), rngs=rngs)
        self.down = Linear(hidden, d, axes=("mlp", "embed"), rngs=rngs)
        if config.qk_norm:
            names = ("norm_q", "norm_k", "norm_cross_q", "norm_cross_k")
            for name in names:
                setattr(self, name, RMSNorm(d // config.heads, rngs=rngs))

    def __call__(self, x: Float[Array, "b n d"], condition: Float[Array, "b k d"], level: Int[Array, "b n"],
                 rotary: Rotation, text: States, mask: Bool[Array, "b n n"] | None) -> Float[Array, "b n d"]:
        parts = jnp.split(self.modulation(condition), 6, axis=-1)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = (select(part, level) for part in parts)
        x = x + gate_a * self.attend(modulate(layer_norm(x), shift_a, scale_a), rotary, mask)
        x = x + self.read(layer_norm(x), text)
        hidden = nnx.gelu(self.up(modulate(layer_norm(x), shift_m, scale_m)))
        return x + gate_m * self.down(hidden)

    def attend(self, x: Float[Array, "b n d"], rotary: Rotation,
               mask: Bool[Array, "b n n"] | None) -> Float[Array, "b n d"]:
        """Self-attention of the tokens of one clip."""
        q, k, v = (rearrange(part, "b n (a e) -> b n a e", a=self.config.heads)
                   for part in jnp.split(self.qkv(x), 3, axis=-1))
        if self.config.qk_norm:
            q, k = self.norm_q(q), self.norm_k(k)
        mixed = attention(rotate(q, rotary), rotate(k, rotary), v, mask)
        return self.out(rearrange(mixed, "b n a e -> b n (a e)"))

    def read(self, x: Float[Array, "b n d"], text: States) -> Float[Array, "b n d"]:
        """Cross-attention from tokens to caption states."""
        states, mask = text
        parts = (self.cross_q(x), *jnp.split(self.cross_kv(states), 2, axis=-1))
        q, k, v = (rearrange(part, "b n (a e) -> b n a e", a=self.config.heads) for part in parts)
        if self.config.qk_norm:
            q, k = self.norm_cross_q(q), self.norm_cross_k(k)
        return self.cross_out(rearrange(attention(q, k, v, mask[:, None]), "b n a e -> b n (a e)"))


class DiT(nnx.Module):
    """The transformer with its caption encoder `text` as a child."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs, text_encoder: nnx.Module):
        d, self.config, self.text = config.width, config, text_encoder
        self.embed = Linear(config.elements, d, axes=("in", "embed"), rngs=rngs)
        self.time_in = Linear(config.time_width, d, axes=("in", "embed"), init=NORMAL, rngs=rngs)
        self.time_out = Linear(d, d, axes=("in", "embed"), init=NORMAL, rngs=rngs)
        self.caption = Linear(config.text_width, d, axes=("in", "embed"), rngs=rngs)

        @nnx.split_rngs(splits=config.depth)
        @nnx.vmap(in_axes=0, out_axes=0, transform_metadata={nnx.PARTITION_NAME: "layers"})
        def stack(rngs):
            return Block(config, rngs=rngs)

        self.blocks = stack(rngs)
        self.head_modulation = Linear(d, 2 * d, axes=("in", "embed"), init=ZEROS, rngs=rngs)
        self.head = Linear(d, config.elements, axes=("embed", "out"), init=ZEROS, rngs=rngs)

    def __call__(self, tokens: Float[Array, "b n p"], positions: Float[Array, "b n 3"], levels: Float[Array, "b k"],
                 level: Int[Array, "b n"], text: UInt8[Array, "b l"] | None, mask: Bool[Array, "b l"] | None,
                 segments: Int[Array, "b n"] | None = None, *, text_states: States | None = None
                 ) -> Float[Array, "b n p"]:
        """The prediction for every token. Tokens attend within their segment; states of the caption may be passed
        in place of its bytes, so that a sampler encodes it once."""
        dtype = jnp.dtype(self.config.dtype)
        states, kept = self.encode_text(text, mask) if text_states is None else text_states
        states = states.astype(dtype)
        condition = self.condition(levels, (states, kept))
        x = self.embed(tokens.astype(dtype))
        if self.config.absolute:
            x = x + sincos(positions, self.config.width).astype(dtype)
        rotary = rotation(positions, self.config.width // self.config.heads, self.config.rope_theta)
        together = None if segments is None else segments[:, :, None] == segments[:, None, :]
        x = self.through(x, condition, level, rotary, (states, kept), together)
        shift, scale = (select(part, level) for part in jnp.split(self.head_modulation(condition), 2, axis=-1))
        return self.head(modulate(layer_norm(x), shift, scale)).astype(tokens.dtype)

    def through(self, x: Float[Array, "b n d"], *context) -> Float[Array, "b n d"]:
        """All blocks in turn: one compiled body under `lax.scan`, its activations recomputed as `remat` says."""
        graph, stack = nnx.split(self.blocks)

        def body(h, weights):
            return nnx.merge(graph, weights)(h, *context), None

        if REMAT[self.config.remat] is not None:
            body = jax.checkpoint(body, policy=REMAT[self.config.remat])
        return jax.lax.scan(body, x, stack, unroll=1 if self.config.scan else self.config.depth)[0]

    def condition(self, levels: Float[Array, "b k"], text: States) -> Float[Array, "b k d"]:
        """What adaLN reads: the embedded noise level plus the mean caption state, through the activation."""
        states, kept = text
        weight = kept.astype(states.dtype)[..., None]
        mean = (states * weight).sum(axis=1) / weight.sum(axis=1)
        time = self.time_out(nnx.silu(self.time_in(timestep(levels, self.config.time_width).astype(states.dtype))))
        return nnx.silu(time + self.caption(mean)[:, None])

    def encode_text(self, text: UInt8[Array, "b l"], mask: Bool[Array, "b l"]) -> States:
        """Caption states and which of them to attend to."""
        return self.text(text, mask)

    def tokenise(self, x: Float[Array, "b fl hl wl z"]) -> tuple[Float[Array, "b n p"], Float[Array, "b n 3"]]:
        """Latents to tokens and their positions. ConfigError if the patch does not divide them."""
        places = positions(grid(x.shape[1:4], self.config.patch))
        return patchify(x, self.config.patch), repeat(places, "n i -> b n i", b=x.shape[0])

    def untokenise(self, tokens: Float[Array, "b n p"], shape: tuple[int, int, int]) -> Float[Array, "b fl hl wl z"]:
        """Tokens in the order of `tokenise` to latents of `shape` = (fl, hl, wl)."""
        return unpatchify(tokens, self.config.patch, grid(shape, self.config.patch))


def build(config: Config, *, rngs: nnx.Rngs, text_encoder: nnx.Module) -> DiT:
    """The transformer that `config` describes, around a caption encoder of width `config.text_width`."""
    return DiT(config, rngs=rngs, text_encoder=text_encoder)


def flops(config: Config, text_config, tokens: int, text_tokens: int | None = None, levels: int = 2) -> dict[str, int]:
    """Forward FLOPs of one clip of `tokens` tokens by group (2 per multiply-add, matmuls only).

    `text_config` gives `flops` of the caption encoder and its number of `states`, unless `text_tokens` says."""
    d, t, p, c, depth = config.width, tokens, config.elements, config.text_width, config.depth
    m = text_config.states if text_tokens is None else text_tokens
    return {"attention_scores": 4 * depth * t * t * d,
            "blocks": 2 * depth * t * (4 + 2 * config.mlp_ratio) * d * d,
            "cross": depth * (4 * t * d * d + 4 * m * c * d + 4 * t * m * d),
            "modulation": 2 * levels * (6 * depth + 2) * d * d,
            "text": text_config.flops,
            "embed": 2 * t * p * d + 2 * levels * (config.time_width + d) * d + 2 * c * d,
            "head": 2 * t * d * p}


def params_by_group(params: dict) -> dict[str, int]:
    """Parameters of a pure dict of DiT weights: `n_core` is the matmul kernels of the blocks without their adaLN,
    `adaln` the modulations, `text`, `embed`, `head`, and `norms` the biases and gains of the blocks."""
    totals = dict.fromkeys(("n_core", "adaln", "text", "embed", "head", "norms"), 0)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        totals[group([key.key for key in path])] += math.prod(leaf.shape)
    return totals


def group(names: list[str]) -> str:
    """The group of `params_by_group` that a weight of this path belongs to."""
    if names[0] == "blocks":
        if names[1] == "modulation":
            return "adaln"
        return "n_core" if names[-1] == "kernel" else "norms"
    owners = {"text": "text", "head_modulation": "adaln", "head": "head"}
    return owners.get(names[0], "embed")
