"""How much an error of a prediction counts at each time, and how errors of one kind turn into those of another.

At a fixed x_t an error of x0 brings an error of every other prediction with it, larger by a factor known beforehand:
squared errors of all kinds are the same measurement on scales that depend on t alone.
"""
import jax.numpy as jnp

from sora_jax.diffusion.path import Path, Time, weights

WEIGHTS = ("none", "min-snr", "edm")
SMALLEST = 1e-8  # sigma, or a gain, that is divided by


def gain(path: Path, kind: str, t: Time) -> Time:
    """The error of a prediction of this kind for an error of x0, of one standard deviation of the data, at fixed x_t.

    1 for x0, alpha / sigma for eps, 1 / sigma for v where variance is preserved, 1 / t for flow on the straight path.
    Zero for eps where alpha = 0."""
    data, noise = weights(path, kind, t)
    return path.sigma_data * jnp.abs(data - noise * path.alpha(t) / jnp.maximum(path.sigma(t), SMALLEST))


def weight(path: Path, kind: str, t: Time, name: str, gamma: float = 5.0) -> Time:
    """The factor of the squared error of a prediction of this kind. Raises KeyError for an unknown name.

    On the error of x0 "min-snr" is min(SNR, gamma) (Hang et al. 2023, eq. 8) and "edm" is SNR + 1, in the units of the
    data the lambda of Karras et al. 2022 (table 1); SNR = (sigma_data alpha / sigma)^2. "none" is 1 on every kind: on
    edm the same as "edm"."""
    if name == "none":
        return jnp.ones_like(t)
    snr = jnp.square(path.sigma_data * path.alpha(t) / jnp.maximum(path.sigma(t), SMALLEST))
    on_x0 = {"min-snr": jnp.minimum(snr, gamma), "edm": snr + 1}[name]
    return on_x0 / jnp.square(jnp.maximum(gain(path, kind, t), SMALLEST))


def exchange(path: Path, kind: str, other: str, t: Time) -> Time:
    """What the squared error of a prediction of this kind is multiplied by to be that of the `other` kind."""
    return jnp.square(gain(path, other, t) / jnp.maximum(gain(path, kind, t), SMALLEST))
