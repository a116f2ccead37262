"""An autoencoder appraised: what it gives back, what it does to motion and to features, and what its latents are like.

Enters: a model, held-out clips, and the feature network if its weights are there. Leaves: figures, each group with the
recipe that makes it comparable, and a sheet of inputs, reconstructions and differences.
"""
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx
from jaxtyping import Float, UInt8

from sora_jax import coder, pipeline, pretrained, video
from sora_jax.evals import channels, frechet, kid, perceptual, reconstruction, spectrum, temporal

STAGE = 1  # whose channels' mean and std are compared as Gaussians: low, so that few frames are enough
FRAMES = 64  # seen at once by the feature network
FAINT = 1e-12  # of the largest power: rounding of a frequency that a clip does not have
GAIN = 4  # of the differences on a sheet


def evaluate(vae: nnx.Module, clips: UInt8[np.ndarray, "n f h w c"], network: nnx.Module | None = None,
             batch: int = 8) -> tuple[dict[str, Any], UInt8[np.ndarray, "n f h w c"]]:
    """All figures of an autoencoder on these clips, and its reconstructions. Without a feature network the group
    "features" says how to get one. Raises InputError for clips that the autoencoder cannot take."""
    coder.check(vae, clips)
    kept = []

    def reconstruct(part):
        kept.append(pipeline.decode(vae, pipeline.encode(vae, part), batch))
        return kept[-1]

    found = {"reconstruction": reconstruction.evaluate(reconstruct, clips, batch)}
    back = np.concatenate(kept)[:len(clips)]
    recipe = f"posterior mean, {len(clips)} clips of {clips.shape[1:]}"
    found["temporal"] = temporal.evaluate(clips, back) | {"recipe": f"{recipe}, grey levels of 255"}
    found["features"] = features(network, clips, back) if network else {"absent": f"get them: {pretrained.COMMAND}"}
    return found | latents(vae, clips, back, batch), back


def latents(vae: nnx.Module, clips: UInt8[np.ndarray, "n f h w c"], back: UInt8[np.ndarray, "n f h w c"],
            batch: int = 8) -> dict[str, Any]:
    """Channel statistics of the latents, their spectra, and how much power of each frequency the pixels keep."""
    parts = [coder.moments(vae, jnp.asarray(clips[i:i + batch])) for i in range(0, len(clips), batch)]
    mean, logvar = (np.concatenate([np.asarray(part[k]) for part in parts]) for k in (0, 1))
    found = channels.evaluate(mean, logvar)
    unit = (mean - np.float32(found["mean"])) / np.maximum(np.float32(found["std"]), 1e-6)
    true, made = spectrum.spatial(clips), spectrum.spatial(back)
    there = true.power > FAINT * true.power.max()
    kept = spectrum.Spectrum(true.frequency[there], made.power[there] / true.power[there])
    return {
        "latents": found | {"shape": mean.shape[1:], "recipe": "posterior mean and variance, not normalised; KL in nats"
                                                               f" per element; dead: KL under {channels.DEAD}"},
        "spectrum": {"space": written(spectrum.spatial(unit)), "time": written(spectrum.temporal(unit)),
                     "pixels_kept": written(kept),
                     "recipe": "cycles per sample; latents with zero mean and unit variance per channel, so white "
                               "noise is 1; pixels_kept: power of the reconstruction over that of the clip, where "
                               "the clip has any"},
    }


def by_film(clips: UInt8[np.ndarray, "n f h w c"], back: UInt8[np.ndarray, "n f h w c"],
            names: Sequence[str]) -> dict[str, dict[str, float | int]]:
    """PSNR of the mean squared error, mean SSIM and number of the clips of each film, by name."""
    found = {}
    for name in dict.fromkeys(names):
        mine = [i for i, other in enumerate(names) if other == name]
        error = np.mean([((back[i].astype(np.float64) - clips[i]) ** 2).mean() for i in mine])
        alike = np.mean([reconstruction.ssim(clips[i], back[i]) for i in mine])
        found[name] = {"psnr": reconstruction.psnr(error), "ssim": float(alike), "clips": len(mine)}
    return found


def written(found: spectrum.Spectrum) -> dict[str, list[float]]:
    """A spectrum as lists."""
    return {name: values.tolist() for name, values in found._asdict().items()}


def features(network: nnx.Module, clips: UInt8[np.ndarray, "n f h w c"],
             back: UInt8[np.ndarray, "n f h w c"]) -> dict[str, float | str]:
    """Feature distance of each frame to its reconstruction, and Fréchet and kernel distances of all frames as sets.
    The clips' two halves against each other are the scale of what the content of clips alone makes."""
    distances, vectors = [], ([], [])
    true, made = (rearrange(x, "n f h w c -> (n f) h w c") for x in (clips, back))
    for start in range(0, len(true), FRAMES):
        pair = [pretrained.maps(network, x[start:start + FRAMES]) for x in (true, made)]
        distances.append(np.asarray(perceptual.distance(*pair)))
        for seen, maps in zip(vectors, pair, strict=True):
            seen.append(frechet.moments(np.asarray(maps[STAGE])))
    a, b = (np.concatenate(seen) for seen in vectors)
    half = len(clips) // 2 * clips.shape[1]
    found = {"distance": float(np.concatenate(distances).mean())} | between(a, b, "")
    return found | (between(a[:half], a[half:], "_halves") if half > 1 else {}) | {
        "recipe": f"EfficientNet-lite0 {pretrained.SHA256[:8]} on single frames of their own size. distance: unit "
                  f"features of stages 0 to {pretrained.STAGES - 1}, equal weights. frechet, kid: mean and std over "
                  f"places of stage {STAGE}, {a.shape[1]} numbers, {len(a)} frames of {len(clips)} clips, each beside "
                  "its own reconstruction; frames of a clip are alike"}


def between(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"], name: str) -> dict[str, float]:
    """Fréchet and kernel distance of two sets of feature vectors, where there are enough for one."""
    if min(len(a), len(b)) < 2:
        return {}
    return {f"frechet{name}": frechet.distance(frechet.gaussian(a), frechet.gaussian(b)),
            f"kid{name}": kid.distance(a, b)}


def sheet(clips: UInt8[np.ndarray, "n f h w 3"], back: UInt8[np.ndarray, "n f h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Three rows a clip: itself, its reconstruction, and their difference around grey, enlarged `GAIN` times."""
    difference = 128 + GAIN * (back.astype(np.int16) - clips.astype(np.int16))
    rows = zip(clips, back, difference.clip(0, 255).astype(np.uint8), strict=True)
    labels = ("clip", "reconstruction", f"difference x{GAIN}") * len(clips)
    return video.contact_sheet([row for group in rows for row in group], labels=labels)
