"""How far apart two pictures are for a classifier: squared differences of unit-length features, equally weighted.

Enters: feature maps of both, of any network. The form is LPIPS without its learned heads (Zhang et al. 2018,
arXiv 1801.03924, eq. 1 with every weight one), so its figures compare among themselves only.
"""
from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

EPSILON = 1e-6  # of a squared length: keeps the gradient of an empty feature finite


def unit(x: Float[Array, "b h w d"]) -> Float[Array, "b h w d"]:
    """Features of length one at every place."""
    return x * lax.rsqrt(jnp.sum(x * x, -1, keepdims=True) + EPSILON)


def distance(
    a: Sequence[Float[Array, "b _h _w _d"]], b: Sequence[Float[Array, "b _h _w _d"]]
) -> Float[Array, "b"]:
    """Per picture: the squared distance of unit features, mean over places, then over maps; from 0 to 4."""
    found = [jnp.mean(jnp.sum((unit(x) - unit(y)) ** 2, -1), (1, 2)) for x, y in zip(a, b, strict=True)]
    return sum(found) / len(found)
