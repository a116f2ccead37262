"""The kernel distance of two sets of features: an unbiased squared MMD with a cubic kernel.

Bińkowski et al. 2018 (arXiv 1801.01401, eq. 4 and section 4) with other features. Its expectation is zero for two
samples of one distribution at any N, so small sets may be compared, and a value may be negative.
"""
import numpy as np
from jaxtyping import Float

from sora_jax.types import InputError


def kernel(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n m"]:
    """(x·y / d + 1)³."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def distance(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
    """The unbiased estimate over all pairs of different frames. Raises InputError for fewer than two of either."""
    if min(len(a), len(b)) < 2:
        raise InputError(f"a kernel distance needs at least two frames of each, got {len(a)} and {len(b)}")
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    within = []
    for x in (a, b):
        among = kernel(x, x)
        within.append((among.sum() - np.trace(among)) / (len(x) * (len(x) - 1)))
    return float(sum(within) - 2 * kernel(a, b).mean())
