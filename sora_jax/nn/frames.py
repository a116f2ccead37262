"""Convolutions that see one frame at a time: `b f h w c` in and out."""
import jax
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from sora_jax.nn import taps
from sora_jax.nn.axes import param


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
