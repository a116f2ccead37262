"""Causal 3-D convolution: `b f h w c` in and out; the output at frame f sees frames ≤ f only (`winograd.py`:
of later ones no more than their rounding).

Time is padded with zeros on the left. On CPU the taps of time are laid side by side on the channel axis and one 2-D
convolution does the rest, or, where there is much to do, sums of frames; XLA's CPU conv3d is 3 to 19 times slower.
Accelerators use the native conv3d.
"""
import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from sora_jax.nn import taps, winograd
from sora_jax.nn.axes import param
from sora_jax.nn.stream import last_frames

IMPLS = ("auto", "native", "taps")


def causal_conv3d(
    x: Float[Array, "b f h w c"],
    weight: Float[Array, "kf kh kw c d"],
    stride: tuple[int, int, int] = (1, 1, 1),
    impl: str = "auto",
    past: Float[Array, "b p h w c"] | None = None,
) -> Float[Array, "b fo ho wo d"]:
    """Convolution causal in time, "same" in space; `fo = (f - 1) // stride[0] + 1`, so frame 0 always stands alone.

    With `past`, the kf - 1 frames before `x`, it goes on where a clip of whole strides was left: `fo = f // stride[0]`.
    """
    if impl == "auto":
        impl = "taps" if jax.default_backend() == "cpu" else "native"
    kf, kh, kw = weight.shape[:3]
    space = ((kh // 2, (kh - 1) // 2), (kw // 2, (kw - 1) // 2))
    f = x.shape[1]
    fo = (f - 1) // stride[0] + 1
    if past is not None:
        fo, x = f // stride[0], jnp.concatenate([past, x], 1)[:, stride[0] - 1 :]
    before = kf - 1 if past is None else 0
    if impl == "native":
        return lax.conv_general_dilated(
            x, weight, stride, ((before, 0), *space), dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
        )
    if stride[0] > 1:
        x = jnp.pad(x, ((0, 0), (before, 0), (0, 0), (0, 0), (0, 0)))
        x = jnp.concatenate([x[:, k : k + (fo - 1) * stride[0] + 1 : stride[0]] for k in range(kf)], -1)
        weight, before = rearrange(weight, "kf kh kw c d -> 1 kh kw (kf c) d"), 0
    if stride[1:] == (1, 1) and winograd.fits(x, weight, before):
        return winograd.causal(x, weight, space, before)
    return taps.causal(x, weight, stride[1:], space, before)


class CausalConv3d(nnx.Module):
    """A causal convolution with bias; weights `kf kh kw c d`, fan-in initialisation times `gain`."""

    def __init__(self, cin, cout, kernel=(3, 3, 3), *, stride=(1, 1, 1), gain=1.0, impl="auto", rngs):
        fan_in = cin * kernel[0] * kernel[1] * kernel[2]
        self.weight = param(
            rngs.params(),
            jax.nn.initializers.normal(gain * fan_in**-0.5),
            (*kernel, cin, cout),
            (None, None, None, "in", "out"),
        )
        self.bias = param(rngs.params(), jax.nn.initializers.zeros, (cout,), ("out",))
        self.stride, self.impl = stride, impl

    def __call__(self, x: Float[Array, "b f h w c"]) -> Float[Array, "b fo ho wo d"]:
        return self.stream(x, None)[0]

    def stream(
        self, x: Float[Array, "b f h w c"], past: Float[Array, "b p h w c"] | None
    ) -> tuple[Float[Array, "b fo ho wo d"], Float[Array, "b p h w c"]]:
        """The next frames of a clip, whole strides after the first frame, with the last kf - 1 frames as the cache."""
        weight = self.weight[...]
        y = causal_conv3d(x, weight, self.stride, self.impl, past) + self.bias[...]
        return y, last_frames(x, past, len(weight) - 1)
