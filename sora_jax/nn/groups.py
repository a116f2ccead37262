"""Which tokens attend to one another where attention is not full: tokens are told apart by their position.

"factorised": within a frame in even layers, along time at one place in odd ones (Bertasius et al. 2021, section 3).
"windowed": within boxes of a grid in even layers, within boxes half a box further on in odd ones (Liu et al. 2021,
section 3.2, here in three axes and without wrapping round). Clips on a known grid are sorted into groups, so that only
scores within them are computed; any other list of tokens gets a mask.
"""
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from sora_jax.nn.patch import places

KINDS = ("full", "factorised", "windowed")


class Groups(NamedTuple):
    """`index` (groups, most tokens in one) says which token lies where, `real` which places are none, `back` (n) where
    each token lies."""

    index: Int[np.ndarray, "g s"]
    real: Bool[np.ndarray, "g s"]
    back: Int[np.ndarray, "n"]


def names(kind: str, window: tuple[int, int, int], odd: bool,
          positions: Float[Array | np.ndarray, "*s 3"]) -> Float[Array | np.ndarray, "*s 3"]:
    """Three numbers per token, equal for tokens of one group."""
    if kind == "factorised":
        return positions * np.array([0, 1, 1] if odd else [1, 0, 0], np.float32)
    sizes = np.array(window, np.float32)
    whole = np.floor if isinstance(positions, np.ndarray) else jnp.floor
    return whole((positions + (sizes // 2 if odd else 0)) / sizes)


def mask(kind: str, window: tuple[int, int, int], odd: bool, positions: Float[Array, "b n 3"]) -> Bool[Array, "b n n"]:
    """True where two tokens of a clip belong to one group."""
    called = names(kind, window, odd, positions)
    return (called[:, :, None] == called[:, None]).all(axis=-1)


@functools.lru_cache
def groups(kind: str, window: tuple[int, int, int], odd: bool, grid: tuple[int, int, int]) -> Groups:
    """The groups of the tokens of `grid` = (frames, rows, columns), in the order of `patchify`."""
    _, owner, sizes = np.unique(names(kind, window, odd, places(grid)), axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(owner.ravel(), kind="stable")
    slot = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    index, real = (np.zeros((len(sizes), sizes.max()), kind) for kind in (np.int32, bool))
    index[owner.ravel()[order], slot], real[owner.ravel()[order], slot] = order, True
    back = np.empty(len(order), np.int32)
    back[order] = owner.ravel()[order] * sizes.max() + slot
    return Groups(index, real, back)


def scores(kind: str, window: tuple[int, int, int], grid: tuple[int, int, int]) -> tuple[int, int]:
    """Pairs of query and key that are computed in an even layer and in an odd one."""
    if kind == "full":
        return (math.prod(grid) ** 2,) * 2
    shapes = [groups(kind, window, odd, grid).index.shape for odd in (False, True)]
    return tuple(count * most**2 for count, most in shapes)


def gather(x: Float[Array, "b n *s"], by: Groups) -> Float[Array, "b g s *s"]:
    """Tokens sorted into groups. The gradient is a gather too: places that are no token must get none."""
    shape = by.index.shape

    @jax.custom_vjp
    def sort(x):
        return x[:, by.index.ravel()].reshape(x.shape[0], *shape, *x.shape[2:])

    def back(_, cotangent):
        return (cotangent.reshape(cotangent.shape[0], -1, *cotangent.shape[3:])[:, by.back],)

    sort.defvjp(lambda x: (sort(x), None), back)
    return sort(x)


def scatter(x: Float[Array, "b g s *s"], by: Groups) -> Float[Array, "b n *s"]:
    """The inverse of `gather`."""
    @jax.custom_vjp
    def unsort(x):
        return x.reshape(x.shape[0], -1, *x.shape[3:])[:, by.back]

    def back(_, cotangent):
        real = jnp.asarray(by.real).reshape(1, *by.real.shape, *(1,) * (cotangent.ndim - 2))
        sorted_ = cotangent[:, by.index.ravel()].reshape(cotangent.shape[0], *by.index.shape, *cotangent.shape[2:])
        return (jnp.where(real, sorted_, 0),)

    unsort.defvjp(lambda x: (unsort(x), None), back)
    return unsort(x)
