"""UniPC-2 (Zhao et al. 2023, arXiv 2302.04867, algorithms 5 to 8 with B(h) = e^h - 1): predict, then correct with the
prediction made at the guess, which the next step needs anyway.

Enters: noise at times[0] and a denoiser x, t -> (x0, eps). Leaves: x at times[-1]. The predictor has order 2, the
corrector adds one between ends where lambda = log(alpha / sigma) is finite; at an infinite end both fall back by one.
"""
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sora_jax.diffusion.path import advance


def sample(denoise: Callable, xt: Float[Array, "*s"], times: Float[Array, "i"], path, key: jax.Array,
           hold: Callable = lambda x: x) -> Float[Array, "*s"]:
    """One denoiser call per interval of `times`. Deterministic: `key` is not used."""
    def move(x, data, t, s):
        return hold(advance(path, x, data, t, s))

    def step(carry, interval):
        start, guess, last, older = carry
        (before, t, s), ahead, behind, fresh = interval
        x0, _ = denoise(guess, t)
        corrected = move(start, last + behind * (last - older) + fresh * (x0 - last), before, t)
        x = jnp.where(before > t, corrected, guess)
        return (x, move(x, x0 + ahead * (x0 - last), t, s), x0, last), None

    none = jnp.zeros_like(xt)
    triples = jnp.concatenate([times[:1], times[:-2]]), times[:-1], times[1:]
    (_, x, _, _), _ = jax.lax.scan(step, (xt, xt, none, none), (triples, *weights(path, times)))
    return x


def weights(path, times: Float[Array, "i"]) -> tuple[Float[Array, "j"], ...]:
    """For every interval the predictor's weight of x0 - last, and the corrector's of last - older and of x0 - last in
    the interval before it (zeros in the first, which has none before)."""
    lengths = jnp.diff(path.log_snr(times))
    bounded = jnp.isfinite(lengths)
    both = bounded[1:] & bounded[:-1]
    ratio = jnp.where(both, lengths[1:] / lengths[:-1], 0.0)
    nothing = jnp.zeros_like(lengths[:1])
    ahead = jnp.concatenate([nothing, 0.5 * ratio])
    first, second = moments(jnp.where(bounded, lengths, 1.0)[1:])
    slope = (first - second) * ratio / (1.0 + ratio)
    behind, fresh = jnp.where(both, slope * ratio, 0.0), jnp.where(both, first - slope, 0.5)
    return ahead, *corrections(lengths, behind, fresh)


def corrections(lengths: Float[Array, "j"], behind: Float[Array, "k"],
                fresh: Float[Array, "k"]) -> tuple[Float[Array, "j"], Float[Array, "j"]]:
    """The corrector's weights of the interval before each one: nothing, then the average of both ends, then `behind`
    and `fresh` from the second interval on."""
    start = jnp.array([0.0, 0.5], lengths.dtype)
    return tuple(jnp.concatenate([part, rest])[:len(lengths)] for part, rest in
                 ((0 * start, behind), (start, fresh)))


def moments(h: Float[Array, "k"]) -> tuple[Float[Array, "k"], Float[Array, "k"]]:
    """The right-hand side b of the corrector's two equations, of intervals of length h in lambda."""
    z = -h
    scale = jnp.expm1(z)
    first = scale / z - 1.0
    return first / scale, 2.0 * (first / z - 0.5) / scale
