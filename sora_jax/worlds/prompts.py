"""Prompts for evaluation: texts of the caption grammar, never seen in training, with what their videos must show."""

from typing import NamedTuple

from sora_jax.types import ConfigError, Truth
from sora_jax.worlds import sampling
from sora_jax.worlds.caption import withheld
from sora_jax.worlds.clips import Stream
from sora_jax.worlds.specification import Specification, specification

PATIENCE = 2000  # draws without a new prompt before giving up


class Prompt(NamedTuple):
    """A text, what its words promise, and the truth of the world it was written for."""

    text: str
    specification: Specification
    truth: Truth


def prompts(
    count: int,
    *,
    families=("uniform",),
    weights=(),
    language: str = "en",
    style: str = "short",
    seed: int = 0,
    split: str = "val",
    frames: int = 17,
    fps: float = 8.0,
    aspect: float = 1.0,
    seconds: float = 2.0,
    unseen: bool = True,
    seen=(),
    fewer: bool = False,
    colours=(),
) -> list[Prompt]:
    """`count` different prompts, a pure function of the arguments.

    `unseen`: only texts of the withheld tenth, which no train or val clip of any seed carries (False: only others).
    `seen`: further texts to leave out. `split` chooses ranges and pairs (held_pair: never trained, so all unseen).
    `colours`: those of `palette.pairs`.
    Raises ConfigError when the grammar of the families has fewer such texts, or gives those it has if `fewer`.
    """
    names, cumulative = sampling.family_table(families, weights, split)
    sampling.check_colours(colours, names, split)
    stream = Stream(
        names, tuple(cumulative.tolist()), seed, split, frames, fps, aspect, seconds, language, style, sampling.PROMPTS,
        colours=tuple(colours),
    )
    chosen, taken, index, last = [], set(seen), 0, 0
    while len(chosen) < count and index - last < PATIENCE:
        truth, rng = stream.scene(index)
        text = stream.word(truth, rng)
        index += 1
        if text not in taken and (withheld(text) or split == "held_pair") == unseen:
            taken.add(text)
            chosen.append(Prompt(text, specification(text), truth))
            last = index
    if len(chosen) < count and not fewer:
        raise ConfigError(f"prompts: {len(chosen)} of {count} exist for {tuple(families)}, {style}; ask for fewer")
    return chosen
