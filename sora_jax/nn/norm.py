"""Normalisations over the last axis, computed in fp32 and returned in the dtype of the input."""
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from sora_jax.nn.axes import param
from sora_jax.nn.norm_silu import norm_silu


class RMSNorm(nnx.Module):
    """x / rms(x) times a learned gain (Zhang and Sennrich 2019, eq. 4)."""

    def __init__(self, width: int, *, axis: str | None = None, epsilon: float = 1e-6, rngs: nnx.Rngs):
        self.scale = param(rngs.params(), nnx.initializers.ones, (width,), (axis,))
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "*s d"]) -> Float[Array, "*s d"]:
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + self.epsilon)
        return (y * self.scale[...]).astype(x.dtype)

    def silu(self, x: Float[Array, "*s d"]) -> Float[Array, "*s d"]:
        """silu of the norm."""
        if jax.default_backend() == "cpu":
            return norm_silu(x, self.scale[...], self.epsilon)
        return jax.nn.silu(self(x))


class LayerNorm(nnx.Module):
    """`layer_norm` times a learned gain plus a learned shift (Ba et al. 2016, eq. 4)."""

    def __init__(self, width: int, *, axis: str | None = None, epsilon: float = 1e-6, rngs: nnx.Rngs):
        self.scale = param(rngs.params(), nnx.initializers.ones, (width,), (axis,))
        self.bias = param(rngs.params(), nnx.initializers.zeros, (width,), (axis,))
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "*s d"]) -> Float[Array, "*s d"]:
        y = layer_norm(x.astype(jnp.float32), self.epsilon)
        return (y * self.scale[...] + self.bias[...]).astype(x.dtype)


def layer_norm(x: Float[Array, "*s d"], epsilon: float = 1e-6) -> Float[Array, "*s d"]:
    """Zero mean and unit variance over the last axis, with no learned gain (Ba et al. 2016, eq. 4)."""
    y = x.astype(jnp.float32)
    y = y - jnp.mean(y, axis=-1, keepdims=True)
    return (y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + epsilon)).astype(x.dtype)


def modulate(x: Float[Array, "*s d"], shift: Float[Array, "*#s d"],
             scale: Float[Array, "*#s d"]) -> Float[Array, "*s d"]:
    """The adaptive part of adaLN: x (1 + scale) + shift (Peebles and Xie 2023, section 3.2)."""
    return x * (1 + scale) + shift
