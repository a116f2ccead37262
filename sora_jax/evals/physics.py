"""Did the video keep its promise? Prompt adherence by the ground-truth parser, and the velocity error of PhyWorld.

`adherence` scores clips drawn from captions; `velocity` compares motion with the exact one (Kang et al. 2024,
arXiv 2411.02385, section 3), for generated clips and for the two floors: true pixels, and true pixels through the VAE.
"""
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from sora_jax.types import Truth
from sora_jax.worlds import palette
from sora_jax.worlds.parse import parse
from sora_jax.worlds.score import score, velocity_error
from sora_jax.worlds.specification import Specification

HALF = 0.5  # of the frames, in which a subject must stand whole
QUESTIONS = ("count", "colour", "shape", "direction", "place", "all")


def interval(right: int, asked: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion (Wilson 1927)."""
    p, n = right / asked, asked
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def adherence(
    videos: UInt8[np.ndarray, "n f h w c"], specifications: Sequence[Specification], fps: float,
    beyond: Sequence[str] = (),
) -> dict[str, dict]:
    """For each question: how many clips were asked it, the share that got it right, and its 95 % interval.

    Direction and place are asked only of prompts that say one. `beyond`: colours outside the palette's eight that may
    be there.
    """
    scores = [score(parse(video, fps, beyond), spec) for video, spec in zip(videos, specifications, strict=True)]
    asks = {"direction": "direction", "place": "relation"}
    found = {}
    for name in QUESTIONS:
        asked = [
            s[name] for s, spec in zip(scores, specifications, strict=True)
            if name not in asks or getattr(spec, asks[name]) is not None
        ]
        if asked:
            low, high = interval(sum(asked), len(asked))
            found[name] = {"right": sum(asked) / len(asked), "low": low, "high": high, "asked": len(asked)}
    return found


def framing(videos: UInt8[np.ndarray, "n f h w c"], specifications: Sequence[Specification], fps: float,
            beyond: Sequence[str] = ()) -> dict[str, float | int]:
    """Of the subjects that captions ask for, known by colour: the share that is seen at all, and the share that stands
    whole in the frame, cut by no edge, in half of the frames or more, with its 95 % interval."""
    seen = whole = subjects = 0
    for video, spec in zip(videos, specifications, strict=True):
        found = parse(video, fps, beyond).objects
        for colour in sorted({colour for colour, _ in spec.kinds}):
            asked = sum(name == colour for name, _ in spec.kinds)
            mine = [one for one in found if one.colour == colour]
            subjects += asked
            seen += min(asked, len(mine))
            whole += min(asked, sum(bool((one.visible & ~one.cut).mean() >= HALF) for one in mine))
    low, high = interval(whole, subjects)
    return {"seen": seen / subjects, "whole": whole / subjects, "low": low, "high": high, "subjects": subjects}


def in_view(truths: Sequence[Truth], width: float) -> dict[str, float | int]:
    """What a crop of the middle of the world, `width` heights wide, leaves of its objects: the share that is seen at
    all, that stands whole in half of the frames or more, and of clips in which all do."""
    seen, whole, every = [], [], []
    for truth in truths:
        low, high = (truth["aspect"] - width) / 2, (truth["aspect"] + width) / 2
        x = truth["position"][:, :truth["count"], 0]
        half = [palette.reach(int(truth["shape"][k]), float(truth["radius"][k])).half_width
                for k in range(truth["count"])]
        inside = ((x - half >= low) & (x + half <= high) & truth["whole"][:, :truth["count"]]).mean(0) >= HALF
        whole += inside.tolist()
        every.append(bool(inside.all()))
        seen += ((x + half > low) & (x - half < high) & truth["visible"][:, :truth["count"]]).any(0).tolist()
    return {"seen": float(np.mean(seen)), "whole": float(np.mean(whole)), "clips_whole": float(np.mean(every)),
            "subjects": len(whole)}


def velocity(videos: UInt8[np.ndarray, "n f h w c"], truths: Sequence[Truth], fps: float) -> dict[str, float]:
    """Mean, median, standard error over clips of |v - v_true| in frame heights a second, and clips with no object."""
    errors = np.array([velocity_error(parse(video, fps), truth) for video, truth in zip(videos, truths, strict=True)])
    seen = errors[np.isfinite(errors)]
    if not seen.size:
        return {"mean": math.nan, "median": math.nan, "se": math.nan, "lost": len(errors)}
    return {
        "mean": float(seen.mean()), "median": float(np.median(seen)), "se": float(seen.std() / seen.size**0.5),
        "lost": int(len(errors) - seen.size),
    }
