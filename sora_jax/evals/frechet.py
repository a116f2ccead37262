"""The Fréchet distance of two sets of features, each taken for a Gaussian (Dowson and Landau 1982).

Heusel et al. 2017 (arXiv 1706.08500, eq. 6) score generators so, with other features: figures compare only at equal
features, frames and N, and with fewer frames than a few times the dimensions the bias is larger than the distance.
"""
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sora_jax.types import InputError


class Gaussian(NamedTuple):
    """Mean and covariance of features, in double precision."""

    mean: Float[np.ndarray, "d"]
    covariance: Float[np.ndarray, "d d"]


def moments(x: Float[np.ndarray, "b h w d"]) -> Float[np.ndarray, "b dd"]:
    """A feature map as one vector a frame: mean and standard deviation of each channel over places."""
    x = np.asarray(x, np.float64)
    return np.concatenate([x.mean((1, 2)), x.std((1, 2))], -1)


def gaussian(x: Float[np.ndarray, "n d"]) -> Gaussian:
    """The Gaussian of n feature vectors (covariance over n - 1). Raises InputError for fewer than two."""
    if len(x) < 2:
        raise InputError(f"a Fréchet distance needs at least two frames, got {len(x)}")
    x = np.asarray(x, np.float64)
    return Gaussian(x.mean(0), np.atleast_2d(np.cov(x, rowvar=False)))


def root(covariance: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    """The symmetric square root; eigenvalues that rounding made negative are zero."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def distance(a: Gaussian, b: Gaussian) -> float:
    """|m - n|² + tr(S + T - 2 (S^½ T S^½)^½), in squared units of the features; zero for equal Gaussians."""
    half = root(a.covariance)
    cross = np.sqrt(np.linalg.eigvalsh(half @ b.covariance @ half).clip(0)).sum()
    spread = np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross
    return float(max(np.sum((a.mean - b.mean) ** 2) + spread, 0.0))
