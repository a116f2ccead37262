"""Spacetime diffusion transformer: tokens that know where they are and how noisy they are, and a caption.

Enters: patches `b n p`, positions `b n 3`, the noise levels `b k` of each clip and which of them each token has.
Leaves: the prediction per token. By default adaLN-Zero blocks (Peebles and Xie 2023, section 3.2) with text
cross-attention (PixArt-alpha, Chen et al. 2023, section 2.2), RMS-normalised queries and keys, and rotary positions on
three axes; variants in `nn.dit_block`, `nn.positions`, `nn.groups`, costs in `nn.costs`.
"""
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from einops import rearrange, repeat
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Shaped

from sora_jax.nn import costs, groups, packing, positions
from sora_jax.nn.axes import param
from sora_jax.nn.dit_block import Block, Context, select
from sora_jax.nn.embed import timestep
from sora_jax.nn.linear import Linear
from sora_jax.nn.norm import layer_norm, modulate
from sora_jax.nn.patch import grid, patchify, unpatchify
from sora_jax.nn.patch import positions as places_of
from sora_jax.nn.rope import rotation
from sora_jax.nn.transformer import stacked
from sora_jax.types import ConfigError

States = tuple[Float[Array, "b *s m c"], Bool[Array, "b *s m"]]
ZEROS, NORMAL = nnx.initializers.zeros, nnx.initializers.normal(0.02)
REMAT = {"none": None, "full": jax.checkpoint_policies.nothing_saveable,
         "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable}
CHOICES = {"modulation": ("block", "single"), "text": ("cross", "joint", "prefix", "none"),
           "pooled": ("linear", "direct", "none"), "positions": positions.KINDS, "qk_norm": ("none", "head", "full"),
           "attention": groups.KINDS, "mlp": ("gelu", "swiglu"), "remat": tuple(REMAT),
           "dtype": ("float32", "bfloat16")}


@dataclass(frozen=True)
class Config:
    """Sizes and switches, each with its choices in `CHOICES`. `hidden`: width of the MLP, 0 for `mlp_ratio` times the
    width, or two thirds of that with SwiGLU, which has three matrices. `text`: how tokens read the caption; `pooled`:
    how its mean joins the noise level in adaLN, through a projection, as it is, or not. `caption_mlp`: two layers
    between the caption's encoder and the blocks. `length`: tokens of the longest clip, of learned positions. `window`:
    of windowed attention. `time_shift` is added to the 1000 t that the network is told, at frequencies that `time_ends`
    puts as diffusers' DiT does. `variance`: the head has as
    many outputs again, which are not part of the prediction. `dtype`: of activations; parameters stay fp32."""

    width: int = 256
    depth: int = 8
    heads: int = 4
    patch: tuple[int, int, int] = (1, 2, 2)
    channels: int = 16
    mlp_ratio: int = 4
    hidden: int = 0
    mlp: str = "gelu"
    text_width: int = 128
    time_width: int = 256
    time_shift: float = 0.0
    time_ends: bool = False
    modulation: str = "block"
    text: str = "cross"
    pooled: str = "linear"
    caption_mlp: bool = False
    cross_norm: bool = False
    qk_norm: str = "head"
    positions: str = "sincos+rotary"
    length: int = 0
    rope_theta: float = 100.0
    attention: str = "full"
    window: tuple[int, int, int] = (2, 4, 4)
    variance: bool = False
    remat: str = "dots"
    scan: bool = True
    dtype: str = "float32"

    def __post_init__(self):
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigError(f"model.{name}={getattr(self, name)!r} is not one of {', '.join(choices)}")
        if self.width % self.heads or self.width // self.heads % 2:
            raise ConfigError(f"model.width={self.width} with model.heads={self.heads} gives heads of "
                              f"{self.width / self.heads:g}; choose an even head width")
        if self.positions == "sincos-2d" and self.width % 4:
            raise ConfigError(f"model.width={self.width} does not share its features among sine and cosine of row and "
                              "column; model.positions=sincos-2d needs a multiple of 4")
        if self.positions == "learned" and self.length < 1:
            raise ConfigError(f"model.length={self.length}: model.positions=learned needs the tokens of a clip")
        if self.pooled == "direct" and self.text_width != self.width:
            raise ConfigError(f"text.width={self.text_width} is not model.width={self.width}; model.pooled=direct adds "
                              "the caption's mean to the embedded noise level as it is")
        if self.attention != "full" and (self.text in ("joint", "prefix") or self.depth % 2):
            raise ConfigError(f"model.attention={self.attention!r} goes with model.text=cross or none and an even "
                              f"depth, not with {self.text!r} and model.depth={self.depth}")
        if len(self.window) != 3 or min(self.window) < 1:
            raise ConfigError(f"model.window={tuple(self.window)} must be three positive sizes: frames, rows, columns")
        if self.cross_norm and self.text != "cross" or self.caption_mlp and self.text == "none":
            raise ConfigError(f"model.text={self.text!r}: model.cross_norm is of cross-attention, model.caption_mlp of "
                              "states that blocks read; set them to False")

    @property
    def elements(self) -> int:
        """Latent elements p in one token."""
        return self.patch[0] * self.patch[1] * self.patch[2] * self.channels

    @property
    def hidden_width(self) -> int:
        """Width inside the MLP."""
        whole = self.mlp_ratio * self.width
        return self.hidden or (whole if self.mlp == "gelu" else max(8, round(2 * whole / 24) * 8))

    @property
    def rise(self) -> int:
        """Outputs of the first layer of the MLP."""
        return self.hidden_width * (2 if self.mlp == "swiglu" else 1)

    @property
    def states_width(self) -> int:
        """Width of the caption's states as the blocks read them."""
        return self.width if self.caption_mlp or self.text in ("joint", "prefix") else self.text_width


class DiT(nnx.Module):
    """The transformer with its caption encoder `text` as a child."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs, text_encoder: nnx.Module):
        d, self.config, self.text = config.width, config, text_encoder
        self.embed = Linear(config.elements, d, axes=("in", "embed"), rngs=rngs)
        self.time_in = Linear(config.time_width, d, axes=("in", "embed"), init=NORMAL, rngs=rngs)
        self.time_out = Linear(d, d, axes=("in", "embed"), init=NORMAL, rngs=rngs)
        if config.pooled == "linear":
            self.caption = Linear(config.text_width, d, axes=("in", "embed"), rngs=rngs)
        self.blocks = stacked(lambda rngs: Block(config, rngs=rngs), config.depth, rngs)
        if config.modulation == "block":
            self.head_modulation = Linear(d, 2 * d, axes=("in", "embed"), init=ZEROS, rngs=rngs)
        else:
            self.modulation = Linear(d, 6 * d, axes=("in", "embed"), init=NORMAL, rngs=rngs)
            self.head_table = param(rngs.params(), nnx.initializers.normal(d ** -0.5), (2, d), (None, "embed"))
        outputs = config.elements * (1 + config.variance)
        self.head = Linear(d, outputs, axes=("embed", "out"), init=ZEROS, rngs=rngs)
        if config.caption_mlp or config.text in ("joint", "prefix"):
            self.states_in = Linear(config.text_width, d, axes=("in", "embed"), rngs=rngs)
        if config.caption_mlp:
            self.states_out = Linear(d, d, axes=("in", "embed"), rngs=rngs)
        if config.positions == "learned":
            self.places = param(rngs.params(), NORMAL, (config.length, d), (None, "embed"))

    def __call__(self, tokens: Float[Array, "b n p"], positions: Float[Array, "b n 3"], levels: Float[Array, "b k"],
                 level: Int[Array, "b n"], text: Shaped[Array, "b ..."] | None, mask: Bool[Array, "b *s l"] | None,
                 segments: Int[Array, "b n"] | None = None, *, text_states: States | None = None,
                 layout: tuple[int, int, int] | None = None) -> Float[Array, "b n p"]:
        """The prediction for every token. States of the caption may be passed in place of its bytes, so that a sampler
        encodes it once. Tokens in the order of `tokenise` may say their `layout` = (frames, rows, columns), which saves
        attention in groups from a mask.

        Packed: several clips lie side by side in a row, each with its index in `segments` and its caption in `text`
        `b s l`; `levels` lists those of clip 0, then those of clip 1, and so on, and `level` counts through the list.
        Tokens attend within their segment and read their own caption. Tokens of a segment -1 are padding.
        """
        out = self.everything(tokens, positions, levels, level, text, mask, segments, text_states, layout)
        if not self.config.variance:
            return out
        return rearrange(out, "b n (q two z) -> b n two (q z)", two=2, z=self.config.channels)[:, :, 0]

    def everything(self, tokens, positions, levels, level, text, mask, segments=None, text_states=None,
                   layout=None) -> Float[Array, "b n _"]:
        """All outputs of the head: with `variance`, the prediction's channels and as many again."""
        dtype = jnp.dtype(self.config.dtype)
        states, kept = self.captions(text, mask, text_states)
        states = None if states is None else states.astype(dtype)
        condition = self.condition(levels, states, kept, dtype)
        x = self.placed(self.embed(tokens.astype(dtype)), positions, segments)
        x, context = self.context(x, positions, nnx.silu(condition), level, (states, kept), segments)
        x = self.through(x, self.turns(context, positions, segments, layout))
        x = (x[0] if self.config.text == "joint" else x)[:, :tokens.shape[1]]
        if self.config.modulation == "block":
            rows = self.head_modulation.stored(nnx.silu(condition))
        else:
            rows = jnp.tile(condition, 2) + self.head_table[...].reshape(-1).astype(dtype)
        shift, scale = (select(part, level) for part in jnp.split(rows, 2, axis=-1))
        return self.head(modulate(layer_norm(x), shift, scale)).astype(tokens.dtype)

    def captions(self, text, mask, states: States | None):
        """States `b s m c` of the captions and which of them to read; None where nothing reads any."""
        if self.config.text == "none" and self.config.pooled == "none":
            return None, None
        states, kept = states or self.encode_text(text, mask)
        return (states, kept) if states.ndim == 4 else (states[:, None], kept[:, None])

    def placed(self, x: Float[Array, "b n d"], places: Float[Array, "b n 3"],
               segments: Int[Array, "b n"] | None) -> Float[Array, "b n d"]:
        """Tokens with what their positions add to them. ConfigError if learned ones do not reach a clip's end."""
        if self.config.positions == "learned":
            if segments is None and x.shape[1] > self.config.length:
                raise ConfigError(f"model.length={self.config.length} learned positions, but the clip has {x.shape[1]} "
                                  "tokens; other positions work at any size")
            table = self.places[...].astype(x.dtype)
            return x + (table[:x.shape[1]] if segments is None else table[positions.rank(segments)])
        added = positions.fixed(self.config.positions, places, self.config.width)
        return x if added is None else x + added.astype(x.dtype)

    def context(self, x, places, condition, level, captions, segments):
        """What the blocks take in, and what they read beside it."""
        config, (states, kept) = self.config, captions
        angles = rotation(places, config.width // config.heads, config.rope_theta)
        rotary = angles if "rotary" in config.positions else None
        condition = condition if config.modulation == "block" else self.modulation(condition)
        context = Context(condition, level, rotary, mask=packing.among_tokens(segments))
        if config.text == "none":
            return x, context
        states = self.projected(rearrange(states, "b s m c -> b (s m) c"))
        if config.text == "cross":
            return x, context._replace(states=states, visible=packing.from_tokens(segments, kept))
        each = condition.shape[1] // kept.shape[1]
        context = context._replace(mask=packing.among_all(segments, kept, x.shape[1]),
                                   text_level=(packing.owners(kept) + 1) * each - 1)
        if config.text == "joint":
            return (x, states), context
        if rotary is not None:
            unturned = jnp.ones((*states.shape[:2], rotary[0].shape[-1]))
            rotary = tuple(jnp.concatenate(pair, axis=1) for pair in zip(rotary, (unturned, 0 * unturned), strict=True))
        levels = jnp.concatenate([level, context.text_level], axis=1)
        return jnp.concatenate([x, states], axis=1), context._replace(level=levels, rotary=rotary)

    def projected(self, states: Float[Array, "b r c"]) -> Float[Array, "b r _d"]:
        """Caption states as the blocks read them."""
        if self.config.caption_mlp:
            return self.states_out(nnx.gelu(self.states_in(states)))
        return self.states_in(states) if self.config.text in ("joint", "prefix") else states

    def through(self, x, contexts: tuple[Context, ...]):
        """All blocks in turn: one compiled body under `lax.scan`, its activations recomputed as `remat` says. With two
        contexts even layers read the first and odd layers the second."""
        (graph, stack), turns = nnx.split(self.blocks), len(contexts)
        stack = jax.tree.map(lambda w: w.reshape(-1, turns, *w.shape[1:]), stack) if turns > 1 else stack

        def body(h, weights):
            for turn, context in enumerate(contexts):
                one = jax.tree.map(lambda w, turn=turn: w[turn], weights) if turns > 1 else weights
                h = nnx.merge(graph, one)(h, context)
            return h, None

        if REMAT[self.config.remat] is not None:
            body = jax.checkpoint(body, policy=REMAT[self.config.remat])
        return jax.lax.scan(body, x, stack, unroll=1 if self.config.scan else self.config.depth // turns)[0]

    def turns(self, context: Context, places: Float[Array, "b n 3"], segments: Int[Array, "b n"] | None,
              layout: tuple[int, int, int] | None) -> tuple[Context, ...]:
        """The context of every layer, or those of even and of odd layers."""
        kind, window = self.config.attention, self.config.window
        if kind == "full":
            return (context,)
        if layout is not None and segments is None:
            return tuple(context._replace(among=groups.groups(kind, window, odd, layout)) for odd in (False, True))
        masks = (groups.mask(kind, window, odd, places) for odd in (False, True))
        return tuple(context._replace(mask=near if context.mask is None else near & context.mask) for near in masks)

    def condition(self, levels: Float[Array, "b k"], states: Float[Array, "b s m c"] | None,
                  kept: Bool[Array, "b s m"] | None, dtype) -> Float[Array, "b k d"]:
        """What adaLN reads, before its activation: the embedded noise level plus the mean caption state."""
        told = timestep(levels, self.config.time_width, self.config.time_shift, self.config.time_ends).astype(dtype)
        time = self.time_out(nnx.silu(self.time_in(told)))
        if self.config.pooled == "none":
            return time
        weight = kept.astype(states.dtype)[..., None]
        mean = (states * weight).sum(axis=2) / weight.sum(axis=2)
        mean = self.caption(mean) if self.config.pooled == "linear" else mean
        return time + (mean if mean.shape[1] == 1 else jnp.repeat(mean, time.shape[1] // mean.shape[1], axis=1))

    def encode_text(self, text: Shaped[Array, "b ..."], mask: Bool[Array, "b *s l"]) -> States:
        """Caption states and which of them to attend to."""
        lead = mask.shape[:-1]
        states, kept = self.text(*(part.reshape(math.prod(lead), *part.shape[len(lead):]) for part in (text, mask)))
        return tuple(part.reshape(*lead, *part.shape[1:]) for part in (states, kept))

    def tokenise(self, x: Float[Array, "b fl hl wl z"]) -> tuple[Float[Array, "b n p"], Float[Array, "b n 3"]]:
        """Latents to tokens and their positions. ConfigError if the patch does not divide them."""
        places = places_of(self.layout(x.shape[1:4]))
        return patchify(x, self.config.patch), repeat(places, "n i -> b n i", b=x.shape[0])

    def layout(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Tokens along (frame, row, column) of latents of `shape` = (fl, hl, wl)."""
        return grid(shape, self.config.patch)

    def untokenise(self, tokens: Float[Array, "b n p"], shape: tuple[int, int, int]) -> Float[Array, "b fl hl wl z"]:
        """Tokens in the order of `tokenise` to latents of `shape` = (fl, hl, wl)."""
        return unpatchify(tokens, self.config.patch, self.layout(shape))


def build(config: Config, *, rngs: nnx.Rngs, text_encoder: nnx.Module) -> DiT:
    """The transformer that `config` describes, around a caption encoder of width `config.text_width`."""
    return DiT(config, rngs=rngs, text_encoder=text_encoder)


flops, params_by_group = costs.flops, costs.params_by_group
