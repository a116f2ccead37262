"""How well an autoencoder gives a clip back: PSNR over all pixels and over the foreground, SSIM, per-frame PSNR.

PSNR is of the mean squared error over all clips (peak 255, clipped to the range); the foreground is every pixel that
differs from the clip's commonest colour by more than 12 grey levels in some channel.
"""
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, UInt8
from scipy import ndimage

FOREGROUND = 12


def foreground(video: UInt8[np.ndarray, "f h w c"]) -> Bool[np.ndarray, "f h w"]:
    """Pixels that are not background."""
    flat = video.reshape(-1, video.shape[-1])
    colours, counts = np.unique(flat[:: max(1, len(flat) // 20_000)], axis=0, return_counts=True)
    return (np.abs(video.astype(np.int16) - colours[counts.argmax()]) > FOREGROUND).any(-1)


def psnr(error: float) -> float:
    """Decibels of a mean squared error against the peak 255."""
    return float(10 * np.log10(255.0**2 / max(error, 1e-10)))


def ssim(a: UInt8[np.ndarray, "f h w c"], b: UInt8[np.ndarray, "f h w c"]) -> float:
    """Structural similarity, Gaussian window of sigma 1.5, mean over frames and channels (Wang et al. 2004, eq. 13)."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    blur = lambda x: ndimage.gaussian_filter(x, (0, 1.5, 1.5, 0), truncate=3.5)  # noqa: E731
    ma, mb = blur(a), blur(b)
    va, vb, vab = blur(a * a) - ma * ma, blur(b * b) - mb * mb, blur(a * b) - ma * mb
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float((((2 * ma * mb + c1) * (2 * vab + c2)) / ((ma**2 + mb**2 + c1) * (va + vb + c2))).mean())


def evaluate(
    reconstruct: Callable[[UInt8[np.ndarray, "b f h w c"]], UInt8[np.ndarray, "b f h w c"]],
    videos: UInt8[np.ndarray, "n f h w c"],
    batch: int = 8,
) -> dict[str, float | list[float]]:
    """PSNR, foreground PSNR, SSIM and PSNR by frame of `reconstruct` on held-out clips."""
    squares, inside, similar = [], [], []
    for start in range(0, len(videos), batch):
        part = videos[start : start + batch]
        padded = np.concatenate([part, np.repeat(part[-1:], batch - len(part), 0)])
        back = np.asarray(reconstruct(padded))[: len(part)]
        error = (back.astype(np.float64) - part.astype(np.float64)) ** 2
        squares.append(error.mean((2, 3, 4)))
        inside += [error[i][foreground(clip)] for i, clip in enumerate(part)]
        similar += [ssim(clip, back[i]) for i, clip in enumerate(part)]
    squares, inside = np.concatenate(squares), np.concatenate(inside)
    return {
        "psnr": psnr(squares.mean()),
        "psnr_foreground": psnr(inside.mean()) if inside.size else psnr(squares.mean()),
        "ssim": float(np.mean(similar)),
        "psnr_by_frame": [psnr(x) for x in squares.mean(0)],
        "clips": len(videos),
    }
