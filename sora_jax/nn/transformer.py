"""Plain pre-norm transformer blocks `b n d` (Vaswani et al. 2017, section 3; pre-norm as in Radford et al. 2019), and
stacks of any block: made by `vmap`, run by `lax.scan` as one compiled body."""
from collections.abc import Callable

import jax
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Bool, Float

from sora_jax.nn.attention import attention
from sora_jax.nn.linear import Linear
from sora_jax.nn.norm import LayerNorm


def quick_gelu(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """x sigmoid(1.702 x), an approximation of GELU (Hendrycks and Gimpel 2016, section 2)."""
    return x * jax.nn.sigmoid(1.702 * x)


def gelu(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """x times the normal distribution function of x (Hendrycks and Gimpel 2016, eq. 1)."""
    return jax.nn.gelu(x, approximate=False)


ACTIVATIONS = {"gelu": gelu, "quick_gelu": quick_gelu}


class Block(nnx.Module):
    """Self-attention, then an MLP of one hidden layer, each beside the identity and after a LayerNorm."""

    def __init__(self, width: int, heads: int, hidden: int, *, activation: str, epsilon: float, rngs: nnx.Rngs):
        self.heads, self.activation = heads, activation
        self.norm_attention = LayerNorm(width, axis="embed", epsilon=epsilon, rngs=rngs)
        self.qkv = Linear(width, 3 * width, axes=("embed", "heads"), rngs=rngs)
        self.out = Linear(width, width, axes=("heads", "embed"), rngs=rngs)
        self.norm_mlp = LayerNorm(width, axis="embed", epsilon=epsilon, rngs=rngs)
        self.up = Linear(width, hidden, axes=("embed", "mlp"), rngs=rngs)
        self.down = Linear(hidden, width, axes=("mlp", "embed"), rngs=rngs)

    def __call__(self, x: Float[Array, "b n d"], mask: Bool[Array, "b #n n"] | None = None) -> Float[Array, "b n d"]:
        q, k, v = rearrange(self.qkv(self.norm_attention(x)), "b n (s a e) -> s b n a e", s=3, a=self.heads)
        x = x + self.out(rearrange(attention(q, k, v, mask), "b n a e -> b n (a e)"))
        return x + self.down(ACTIVATIONS[self.activation](self.up(self.norm_mlp(x))))


def stacked(make: Callable[[nnx.Rngs], nnx.Module], depth: int, rngs: nnx.Rngs) -> nnx.Module:
    """`depth` modules as one whose leaves have a leading axis "layers"."""
    return nnx.split_rngs(splits=depth)(nnx.vmap(
        make, in_axes=0, out_axes=0, transform_metadata={nnx.PARTITION_NAME: "layers"}))(rngs)


def through(stack: nnx.Module, x: Float[Array, "b n d"], *context) -> Float[Array, "b n d"]:
    """All modules of a stack in turn, each called with what the last one returned and the same `context`."""
    graph, weights = nnx.split(stack)
    return jax.lax.scan(lambda h, layer: (nnx.merge(graph, layer)(h, *context), None), x, weights)[0]


def flops(width: int, hidden: int, depth: int, tokens: int) -> int:
    """Forward FLOPs of a stack of `Block`s on so many tokens (2 per multiply-add, matmuls only)."""
    return depth * (2 * tokens * (4 * width * width + 2 * width * hidden) + 4 * tokens * tokens * width)
