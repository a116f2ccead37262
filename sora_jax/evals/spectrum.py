"""Power by frequency, in space averaged over directions, and in time: white noise of unit variance has power 1 at every
frequency, whatever the size.

Enters: clips or latents. Frequencies are in cycles per sample, up to 0.5 (Nyquist).
"""
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped


class Spectrum(NamedTuple):
    """Mean power at each frequency; frequency 0 is the constant part."""

    frequency: Float[np.ndarray, "k"]
    power: Float[np.ndarray, "k"]


def spatial(x: Shaped[np.ndarray, "b f h w c"]) -> Spectrum:
    """|FFT over h and w|² / (h w), mean over clips, frames, channels and rings one step of the longer side wide. What
    is beyond 0.5, or would round to a ring beyond it, is left out."""
    height, width = x.shape[2:4]
    power = np.zeros((height, width))
    for clip in x:
        power += (np.abs(np.fft.fft2(clip.astype(np.float64), axes=(1, 2))) ** 2).mean((0, 3)) / (height * width)
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    longer = max(height, width)
    ring = np.rint(radius * longer).astype(int)
    inside = (radius <= 0.5 + 1e-9) & (2 * ring <= longer)
    count = np.bincount(ring[inside])
    mean = np.bincount(ring[inside], power[inside] / len(x)) / np.maximum(count, 1)
    return Spectrum(np.flatnonzero(count) / longer, mean[count > 0])


def temporal(x: Shaped[np.ndarray, "b f h w c"]) -> Spectrum:
    """|FFT over f|² / f, mean over everything else."""
    frames = x.shape[1]
    power = [(np.abs(np.fft.rfft(clip.astype(np.float64), axis=0)) ** 2).mean((1, 2, 3)) / frames for clip in x]
    return Spectrum(np.fft.rfftfreq(frames), np.mean(power, 0))
