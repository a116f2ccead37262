"""A low-rank change of a dense layer, trained beside its frozen kernel (LoRA: Hu et al. 2021, arXiv 2106.09685, eq. 3).

Enters: what the layer reads. Leaves: what is added to what it says, `scale · (x a) b`, where a kernel W would have
become W + scale · a b. `b` begins at zero, so that a fresh adapter changes nothing.
"""
from flax import nnx
from jaxtyping import Array, Float

from sora_jax.nn.axes import param

RANK = None  # the name of the axis: it is never split


class LowRank(nnx.Module):
    """The factors `a` and `b` of a layer whose kernel, maybe one of a stack, has this shape and these axes."""

    def __init__(self, shape: tuple[int, ...], axes: tuple[str | None, ...], rank: int, scale: float, *,
                 rngs: nnx.Rngs):
        *stack, din, dout = shape
        normal = nnx.initializers.normal(din ** -0.5)
        self.scale = scale
        self.a = param(rngs.params(), normal, (*stack, din, rank), (*axes[:-1], RANK))
        self.b = param(rngs.params(), nnx.initializers.zeros, (*stack, rank, dout), (*axes[:-2], RANK, axes[-1]))

    def __call__(self, x: Float[Array, "n i"]) -> Float[Array, "n o"]:
        return (x @ self.a[...].astype(x.dtype)) @ self.b[...].astype(x.dtype) * self.scale
