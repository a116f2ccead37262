"""What a text-to-video model is asked, and its answers scored: unseen captions, and true beginnings to go on from.

Captions are of the withheld tenth of the grammar, which no training clip of any seed carries. Beginnings are the first
two latent frames (five frames) of held-out clips of uniform motion, so that position and velocity are both given.
"""
from collections.abc import Sequence
from typing import Any

import numpy as np

from sora_jax import sources
from sora_jax.datasets import physics as worlds
from sora_jax.evals import physics
from sora_jax.pipeline import Pipeline, decode, encode
from sora_jax.types import ConfigError, Truth
from sora_jax.worlds import palette
from sora_jax.worlds.prompts import Prompt, prompts

GIVEN = 2  # latent frames
MOTIONS = {"id": "val", "ood_speed": "ood_speed", "ood_radius": "ood_radius"}  # splits of the worlds


def unseen(count: int, families: Sequence[str], pipe: Pipeline, colours: Sequence[str] = ()) -> list[Prompt]:
    """`count` different captions that no training clip carries, as many of each family as the other; where the grammar
    of a family has fewer it gives them all, and the others share the rest. `colours`: names to draw
    from, empty for the palette's eight. Raises ConfigError if all have fewer."""
    data, shares, ample = pipe.config.data, dict.fromkeys(families, 0), list(families)
    if "occluder" in families and palette.LIKE_SLAB in (*data.get("colours", ()), *colours):
        raise ConfigError(f"the run, or --colours, knows {palette.LIKE_SLAB!r}, which is not told from the slab of the "
                          "family 'occluder'; leave that out of --families")
    made: dict[str, list[Prompt]] = {family: [] for family in families}
    while missing := count - sum(map(len, made.values())):
        if not ample:
            raise ConfigError(f"--prompts={count}: the grammar has {count - missing} unseen captions of "
                              f"{', '.join(families)}")
        for k, family in enumerate(ample):
            shares[family] = len(made[family]) + missing // len(ample) + (k < missing % len(ample))
            made[family] = prompts(shares[family], families=(family,), frames=data.frames, fps=data.fps,
                                   aspect=sources.world(data), fewer=True, colours=tuple(colours))
        ample = [family for family in ample if len(made[family]) == shares[family]]
    return [prompt for family in families for prompt in made[family]]


def adherence(pipe: Pipeline, asked: Sequence[Prompt], **options: Any) -> tuple[np.ndarray, dict]:
    """Clips for these prompts, and the share of them that shows what its words say, by question."""
    drawn = pipe.sample([prompt.text for prompt in asked], **options)
    return drawn, physics.adherence(drawn, [prompt.specification for prompt in asked], pipe.config.data.fps,
                                    beyond(pipe, asked))


def framing(drawn: np.ndarray, asked: Sequence[Prompt], pipe: Pipeline) -> dict:
    """The share of the subjects of these prompts that the clips show, and show whole."""
    return physics.framing(drawn, [prompt.specification for prompt in asked], pipe.config.data.fps, beyond(pipe, asked))


def beyond(pipe: Pipeline, asked: Sequence[Prompt]) -> tuple[str, ...]:
    """The colours to look for beside the palette's eight: those that the run was trained on, and those asked for."""
    told = {colour for prompt in asked for colour, _ in prompt.specification.kinds}
    return tuple(sorted({*pipe.config.data.get("colours", ()), *told} - {*palette.COLOURS}))


def by_family(drawn: np.ndarray, asked: Sequence[Prompt], pipe: Pipeline) -> dict[str, dict]:
    """The same scores for the prompts of each family alone."""
    fps, looked = pipe.config.data.fps, beyond(pipe, asked)
    found = {}
    for family in dict.fromkeys(prompt.truth["family"] for prompt in asked):
        rows = [i for i, prompt in enumerate(asked) if prompt.truth["family"] == family]
        found[family] = physics.adherence(drawn[rows], [asked[i].specification for i in rows], fps, looked)
    return found


def later(truth: Truth, start: int, stop: int | None = None) -> Truth:
    """The truth of the frames from `start` on, or up to `stop`."""
    frames = len(truth["times"])
    return {k: v[start:stop] if isinstance(v, np.ndarray) and v.ndim and len(v) == frames else v
            for k, v in truth.items()}


def velocity(pipe: Pipeline, clips: int, motion: str = "id", **options: Any) -> dict[str, dict]:
    """Velocity error of the frames that follow a given beginning, and the two floors: true pixels, and their
    reconstruction. Heights per second, uniform motion of one of `MOTIONS`."""
    videos, captions, truths = moving(pipe, clips, MOTIONS[motion])
    back = np.concatenate([decode(pipe.vae, encode(pipe.vae, videos[i : i + 16])) for i in range(0, clips, 16)])
    shown = {"parser_floor": videos, "vae_floor": back, "model": gone_on(pipe, videos, captions, **options)}
    return {name: after(pipe, films, truths) for name, films in shown.items()}


def motion(pipe: Pipeline, clips: int, **options: Any) -> dict[str, float]:
    """The model's velocity error in and out of distribution (Kang et al. 2024, arXiv 2411.02385): speeds or sizes that
    no training clip has. For each split the mean, its standard error, and the share of clips that lost their object."""
    found = {}
    for name, split in MOTIONS.items():
        videos, captions, truths = moving(pipe, clips, split)
        error = after(pipe, gone_on(pipe, videos, captions, **options), truths)
        found |= {f"velocity_{name}": error["mean"], f"velocity_{name}_se": error["se"],
                  f"velocity_{name}_lost": error["lost"] / clips}
    return found


def moving(pipe: Pipeline, clips: int, split: str) -> tuple[np.ndarray, list[str], list[Truth]]:
    """Clips of uniform motion of a split, as large as the model's own, with captions and truths."""
    data = pipe.config.data
    return worlds.source(worlds.Config(
        frames=data.frames, height=data.height, width=data.width, fps=data.fps, families=("uniform",), split=split
    )).batch(range(clips))


def gone_on(pipe: Pipeline, videos: np.ndarray, captions: Sequence[str], **options: Any) -> np.ndarray:
    """What the model makes of the beginnings of these clips."""
    frames = pipe.latent_shape(*videos.shape[1:4])[0]
    return pipe.sample(captions, known=np.arange(frames) < GIVEN, clips=videos, size=videos.shape[1:4], **options)


def after(pipe: Pipeline, shown: np.ndarray, truths: Sequence[Truth]) -> dict[str, float]:
    """Velocity error of the frames after the given ones."""
    data, frames = pipe.config.data, pipe.latent_shape(*shown.shape[1:4])[0]
    start = (GIVEN - 1) * ((data.frames - 1) // max(frames - 1, 1))
    return physics.velocity(shown[:, start:], [later(truth, start) for truth in truths], data.fps)
