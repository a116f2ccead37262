"""Dense layer on flattened tokens.

Leading axes are folded into one around the matmul: on CPU a batched Dense makes the weight gradient read a transposed
copy of its activation, with the whole producer chain recomputed inside that copy.
"""
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from sora_jax.nn.axes import param
from sora_jax.nn.low_rank import LowRank

XAVIER = nnx.initializers.xavier_uniform()


class Linear(nnx.Module):
    """`x @ kernel + bias` with fp32 parameters, computed in the dtype of `x`; an `adapter` may be put beside them."""

    adapter: LowRank | None = None

    def __init__(self, din: int, dout: int, *, axes: tuple[str | None, str | None], bias: bool = True,
                 init: Callable = XAVIER, rngs: nnx.Rngs):
        self.kernel = param(rngs.params(), init, (din, dout), axes)
        self.bias = param(rngs.params(), nnx.initializers.zeros, (dout,), (axes[1],)) if bias else None

    def __call__(self, x: Float[Array, "*s i"]) -> Float[Array, "*s o"]:
        kernel = self.kernel[...].astype(x.dtype)
        rows = x.reshape(-1, x.shape[-1])
        y = rows @ kernel
        if self.adapter is not None:
            y = y + self.adapter(rows)
        if self.bias is not None:
            y = y + self.bias[...].astype(x.dtype)
        return y.reshape(*x.shape[:-1], kernel.shape[1])

    def stored(self, x: Float[Array, "*s i"]) -> Float[Array, "*s o"]:
        """The same for few rows that many loops will read: on CPU by `one_matmul`."""
        if self.bias is None or self.adapter is not None or jax.default_backend() != "cpu":
            return self(x)
        kernel, bias = (weight[...].astype(x.dtype) for weight in (self.kernel, self.bias))
        return one_matmul(x.reshape(-1, x.shape[-1]), kernel, bias).reshape(*x.shape[:-1], kernel.shape[1])


@jax.custom_jvp
def one_matmul(x: Float[Array, "r i"], kernel: Float[Array, "i o"], bias: Float[Array, " o"]) -> Float[Array, "r o"]:
    """x @ kernel + bias with the bias as one more row of the kernel, where no gradient is taken. A bias that is added
    after the matmul is added again in every loop that reads the rows, and XLA does not vectorise that loop on CPU."""
    return jnp.pad(x, ((0, 0), (0, 1)), constant_values=1) @ jnp.concatenate([kernel, bias[None]])


@one_matmul.defjvp
def _(primals, tangents):
    (x, kernel, bias), (dx, dkernel, dbias) = primals, tangents
    return x @ kernel + bias, dx @ kernel + x @ dkernel + dbias
