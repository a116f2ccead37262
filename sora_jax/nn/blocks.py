"""Residual blocks of video networks: `b f h w d` in and out, causal in time, and they stream.

`Factored`: one convolution in space, one in time, (2+1)-D as of Tran et al. 2018 (arXiv 1711.11248). `Residual`: two
full 3×3×3 convolutions. Norms are over the channels of a position, so time stays causal.
"""
from collections.abc import Callable

from flax import nnx
from jaxtyping import Array, Float

from sora_jax.nn.conv import CausalConv3d
from sora_jax.nn.norm import RMSNorm
from sora_jax.nn.stream import Past


def unit(width: int, rngs: nnx.Rngs) -> RMSNorm:
    """The usual norm."""
    return RMSNorm(width, rngs=rngs)


class Factored(nnx.Module):
    """A 1×3×3 convolution in space, then a causal 3×1×1 in time, beside the identity."""

    def __init__(self, width: int, *, impl: str, rngs: nnx.Rngs):
        self.norm_space = unit(width, rngs)
        self.space = CausalConv3d(width, width, (1, 3, 3), impl=impl, rngs=rngs)
        self.norm_time = unit(width, rngs)
        self.time = CausalConv3d(width, width, (3, 1, 1), gain=0.3, impl=impl, rngs=rngs)

    def stream(self, x: Float[Array, "b f h w d"], past: Past) -> tuple[Float[Array, "b f h w d"], Past]:
        """The next frames, with the cache of the convolution in time."""
        y = self.space(self.norm_space.silu(x))
        y, past = self.time.stream(self.norm_time.silu(y), past)
        return x + y, past


class Residual(nnx.Module):
    """Two normalised causal 3×3×3 convolutions beside a shortcut; `norm` makes the norm of a width."""

    def __init__(self, cin: int, cout: int, *, impl: str, norm: Callable = unit, rngs: nnx.Rngs):
        self.norm1, self.conv1 = norm(cin, rngs), CausalConv3d(cin, cout, impl=impl, rngs=rngs)
        self.norm2, self.conv2 = norm(cout, rngs), CausalConv3d(cout, cout, gain=0.3, impl=impl, rngs=rngs)
        self.shortcut = CausalConv3d(cin, cout, (1, 1, 1), impl=impl, rngs=rngs) if cin != cout else None

    def stream(self, x: Float[Array, "b f h w c"], past: Past) -> tuple[Float[Array, "b f h w d"], Past]:
        """The next frames, with the caches of both convolutions."""
        first, second = (None, None) if past is None else past
        y, first = self.conv1.stream(self.norm1.silu(x), first)
        y, second = self.conv2.stream(self.norm2.silu(y), second)
        return y + (x if self.shortcut is None else self.shortcut(x)), (first, second)
