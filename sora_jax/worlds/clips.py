"""Captioned clips by index: worlds of `sampling`, captions of `caption`, no withheld caption in train or val."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from sora_jax.types import Truth
from sora_jax.worlds import sampling
from sora_jax.worlds.caption import LANGUAGES, STYLES, caption, withheld
from sora_jax.worlds.families import COUNTS
from sora_jax.worlds.render import WHOLE, render

SCREENED = ("train", "val")
PARAPHRASES, SCENES = 8, 64  # redraws of the wording, then of the scene; one scene in a million needs the second


@dataclass(frozen=True)
class Stream:
    """What fixes clip i besides i: the family table, the sampling of time, the words."""

    names: tuple[str, ...]
    cumulative: tuple[float, ...]
    seed: int
    split: str
    frames: int
    fps: float
    aspect: float
    seconds: float
    language: str
    style: str
    name: str = ""  # the index stream; the split's own by default
    counts: tuple[int, ...] = COUNTS
    colours: tuple[str, ...] = ()

    def scene(self, index: int, attempt: int = 0) -> tuple[Truth, np.random.Generator]:
        """Truth of world `index`, and its generator for the words that follow."""
        rng = sampling.stream(self.seed, self.name or self.split, index, attempt)
        world = sampling.draw_world(
            rng, self.split, self.names, self.cumulative, aspect=self.aspect, seconds=self.seconds, counts=self.counts,
            colours=self.colours,
        )
        return sampling.truth(world, sampling.times(world, self.frames, self.fps, rng), self.split), rng

    def word(self, truth: Truth, rng: np.random.Generator) -> str:
        """One caption in the language and style of the stream; "both" tosses a coin."""
        language = tuple(LANGUAGES)[int(rng.random() * 2)] if self.language == "both" else self.language
        style = STYLES[int(rng.random() * 2)] if self.style == "both" else self.style
        return caption(truth, language, style, rng)

    def clip(self, index: int) -> tuple[Truth, str]:
        """Truth and caption. In train and val a withheld caption is reworded, in the last resort the scene redrawn."""
        for attempt in range(SCENES):
            truth, rng = self.scene(index, attempt)
            for _ in range(PARAPHRASES):
                text = self.word(truth, rng)
                if self.split not in SCREENED or not withheld(text):
                    return truth, text
        raise RuntimeError(f"clip {index} of {self.split}: no caption outside the withheld tenth in {SCENES} scenes")

    def batch(
        self, indices: Sequence[int], height: int, width: int, window: tuple[float, float, float] = WHOLE
    ) -> tuple[UInt8[np.ndarray, "b f h w c"], list[str], list[Truth]]:
        """Clips drawn in one compiled call, their captions and truths. `window`: y, x, extent in frame heights."""
        truths, captions = zip(*(self.clip(int(index)) for index in indices), strict=True)
        return render(sampling.scene(list(truths)), height, width, window), list(captions), list(truths)
