"""Captions from truth: a grammar with controlled paraphrases."""
import numpy as np

from sora_jax.types import Truth
from sora_jax.worlds import palette, sampling

LANGUAGES = ("en", "zh")
STYLES = ("short", "dense")


def caption(truth: Truth, language: str, style: str, rng: np.random.Generator) -> str:
    """One caption of a clip."""
    kinds = [
        f"a {palette.COLOUR_NAMES[c]} {palette.SHAPES[s]}"
        for c, s in zip(truth["colour"][: truth["count"]], truth["shape"][: truth["count"]])
    ]
    if truth["family"] == "uniform" and len(truth["times"]) > 1:
        return f"{kinds[0]} moves {truth['direction']}"
    return " and ".join(kinds)


def compose(names, cumulative, *, seed, split, index, frames, fps, aspect, seconds, language, style):
    """Truth and caption of clip `index`."""
    rng = sampling.stream(seed, split, index)
    world = sampling.draw_world(rng, split, names, cumulative, aspect=aspect, seconds=seconds)
    truth = sampling.truth(world, sampling.times(world, frames, fps, rng), split)
    return truth, caption(truth, language, style, rng)
