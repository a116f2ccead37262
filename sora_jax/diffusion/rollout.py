"""Latent frames denoised one behind the other: each waits as noise until the one before it is `lag` steps ahead.

Enters: noise, a denoiser x, times of the frames -> (x0, eps), and the times of a sampler. Leaves: clean tokens. The
pyramid of Chen et al. 2024 (arXiv 2407.01392, section 3.3), each step DDIM's (Song et al. 2020, eq. 12, eta = 0).
"""
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sora_jax.diffusion.path import over


def pyramid(times: Float[Array, "i"], frames: int, lag: int) -> Float[Array, "j f"]:
    """The times of every frame: frame f is where frame 0 was `lag` f rows before; at lag 0 all are together."""
    steps = len(times) - 1
    row, frame = jnp.arange(steps + lag * (frames - 1) + 1)[:, None], jnp.arange(frames)
    return times[jnp.clip(row - lag * frame, 0, steps)]


def sample(denoise: Callable, xt: Float[Array, "b n p"], times: Float[Array, "j f"], path, frame: Int[Array, "n"],
           hold: Callable = lambda x: x) -> Float[Array, "b n p"]:
    """One denoiser call per interval of `times`; frames whose time stands still stay what they are. `frame` is that of
    each token."""
    def step(x, interval):
        t, s = interval
        x0, eps = denoise(x, t)
        mine = s[frame][None]
        moved = over(path.alpha(mine), x) * x0 + over(path.sigma(mine), x) * eps
        return hold(jnp.where((t == s)[frame][None, :, None], x, moved)), None

    return jax.lax.scan(step, xt, (times[:-1], times[1:]))[0]
