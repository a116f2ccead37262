"""Streams of worlds for the tests of this folder."""

from sora_jax.worlds import sampling
from sora_jax.worlds.clips import Stream

EVERY = tuple(sampling.FAMILIES)


def stream(
    families=EVERY, split="train", frames=17, fps=8.0, aspect=1.0, seed=0, seconds=2.0, language="en", style="short"
):
    """A stream of clips with everything but the named fields at its usual value."""
    names, cumulative = sampling.family_table(families, (), split)
    return Stream(names, tuple(cumulative.tolist()), seed, split, frames, fps, aspect, seconds, language, style)
