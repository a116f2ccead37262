"""The parts of a separable convolution on pictures `b h w c`, padded as TensorFlow's "same".

A stride of s gives ceil(h / s) rows, and where the padding is odd the extra row is at the end. On CPU a depthwise
convolution is a sum of shifted products, because XLA's grouped convolution is slow there.
"""
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Rows of zeros before and after `size` rows."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def conv(x: Float[Array, "b h w c"], weight: Float[Array, "k k c d"], stride: int) -> Float[Array, "b ho wo d"]:
    """A full convolution; a kernel of one pixel is a matrix product."""
    if weight.shape[:2] == (1, 1) and stride == 1:
        return x @ weight[0, 0]
    return lax.conv_general_dilated(x, weight, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def depthwise(
    x: Float[Array, "b h w c"], weight: Float[Array, "k k c"], stride: int, impl: str = "auto"
) -> Float[Array, "b ho wo c"]:
    """Each channel with its own kernel. `impl` is "shifts", "native", or "auto": by backend."""
    if impl == "auto":
        impl = "shifts" if jax.default_backend() == "cpu" else "native"
    if impl == "native":
        return lax.conv_general_dilated(x, weight[:, :, None], (stride, stride), "SAME",
                                        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=x.shape[-1])
    kernel, (height, width) = len(weight), x.shape[1:3]
    high, wide = (1 + stride * (-(-size // stride) - 1) for size in (height, width))
    x = jnp.pad(x, ((0, 0), padding(height, kernel, stride), padding(width, kernel, stride), (0, 0)))
    return sum(x[:, i:i + high:stride, j:j + wide:stride] * weight[i, j] for i in range(kernel) for j in range(kernel))
