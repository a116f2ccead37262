"""Layers that see one frame at a time: `b f h w c` in and out, so what they are part of stays causal and streams."""
from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange, repeat
from flax import nnx
from jaxtyping import Array, Float

from sora_jax.nn import taps
from sora_jax.nn.attention import attention
from sora_jax.nn.axes import param
from sora_jax.nn.blocks import unit
from sora_jax.nn.linear import Linear


class FrameConv(nnx.Module):
    """A 2-D convolution of each frame, with bias; weights `kh kw c d`. `pad`: rows and columns of zeros before and
    after the frame."""

    def __init__(self, cin: int, cout: int, kernel: tuple[int, int] = (3, 3), *, stride: int = 1,
                 pad: tuple[int, int] = (1, 1), rngs: nnx.Rngs):
        fan_in = cin * kernel[0] * kernel[1]
        self.weight = param(rngs.params(), jax.nn.initializers.normal(fan_in**-0.5), (*kernel, cin, cout),
                            (None, None, "in", "out"))
        self.bias = param(rngs.params(), jax.nn.initializers.zeros, (cout,), ("out",))
        self.stride, self.pad = stride, pad

    def __call__(self, x: Float[Array, "b f h w c"]) -> Float[Array, "b f ho wo d"]:
        stride, pad = (self.stride, self.stride), (self.pad, self.pad)
        if jax.default_backend() == "cpu":
            return taps.causal(x, self.weight[...][None], stride, pad, 0) + self.bias[...]
        flat = rearrange(x, "b f h w c -> (b f) h w c")
        flat = taps.frame_conv(flat, self.weight[...], stride, pad)
        return rearrange(flat, "(b f) h w d -> b f h w d", b=len(x)) + self.bias[...]


class DoubledConv(FrameConv):
    """A 3×3 convolution of each frame after its rows and columns are doubled.

    On CPU, or where `impl` is "taps", nothing is doubled in float32: an output of each parity sees 2×2 of the inputs,
    with sums of the taps that would see the same one, which is 4/9 of the multiplications.
    """

    def __init__(self, cin: int, cout: int, *, impl: str, rngs: nnx.Rngs):
        super().__init__(cin, cout, rngs=rngs)
        self.impl = impl

    def __call__(self, x: Float[Array, "b f h w c"]) -> Float[Array, "b f 2*h 2*w d"]:
        small = self.impl == "taps" or self.impl == "auto" and jax.default_backend() == "cpu"
        if not small or x.dtype != jnp.float32:
            return super().__call__(repeat(x, "b f h w c -> b f (h p) (w q) c", p=2, q=2))
        weight = self.weight[...]
        y = [[taps.causal(x, halved(halved(weight, p, 0), q, 1)[None], (1, 1), ((1 - p, p), (1 - q, q)), 0)
              for q in range(2)] for p in range(2)]
        y = rearrange(jnp.stack([jnp.stack(row) for row in y]), "p q b f h w d -> b f (h p) (w q) d")
        return y + self.bias[...]


def halved(weight: Float[Array, "kh kw c d"], parity: int, axis: int) -> Float[Array, "kh2 kw2 c d"]:
    """Of three taps along an axis, the two that outputs of a parity have on inputs that were doubled along it."""
    first, second, third = jnp.split(weight, 3, axis)
    pair = (first + second, third) if parity else (first, second + third)
    return jnp.concatenate(pair, axis)


class FrameAttention(nnx.Module):
    """Attention among the positions of a frame, beside the identity; `norm` makes the norm of a width."""

    def __init__(self, width: int, heads: int = 1, *, norm: Callable = unit, rngs: nnx.Rngs):
        self.norm, self.heads = norm(width, rngs), heads
        self.qkv = Linear(width, 3 * width, axes=("in", "out"), rngs=rngs)
        self.out = Linear(width, width, axes=("in", "out"), rngs=rngs)

    def stream(self, x: Float[Array, "b f h w d"], past: None) -> tuple[Float[Array, "b f h w d"], None]:
        """The next frames; nothing to remember."""
        tokens = self.qkv(rearrange(self.norm(x), "b f h w d -> (b f) (h w) d"))
        y = attention(*rearrange(tokens, "b n (s a e) -> s b n a e", s=3, a=self.heads))
        return x + self.out(rearrange(y, "b n a e -> b n (a e)")).reshape(x.shape), None
