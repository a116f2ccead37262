"""What a reconstruction does to motion: the error of the change from frame to frame, and flicker where nothing moves.

Enters: clips and their reconstructions. Leaves: grey levels. An error that stays the same from frame to frame costs
nothing here, and one that comes and goes costs all of itself; PSNR cannot tell the two apart.
"""
import numpy as np
from jaxtyping import UInt8

STILL = 2  # grey levels: a place whose change is no larger stands still


def evaluate(
    videos: UInt8[np.ndarray, "n f h w c"], back: UInt8[np.ndarray, "n f h w c"]
) -> dict[str, float | list[float]]:
    """`change_error`: mean |Δ back - Δ video| over frames, places and channels, and the same for each step in time.
    `flicker`: mean |Δ back| where no channel of the video changes by more than `STILL`; left out where all moves.
    Clips of one frame have none of this."""
    if videos.shape[1] < 2:
        return {}
    steps, still, moved = [], 0, 0.0
    for clip, copy in zip(videos, back, strict=True):
        true, made = (np.diff(x.astype(np.int16), axis=0) for x in (clip, copy))
        steps.append(np.abs(made - true).mean((1, 2, 3), dtype=np.float64))
        places = (np.abs(true) <= STILL).all(-1)
        still += places.sum()
        moved += np.abs(made[places]).mean(-1, dtype=np.float64).sum()
    by_step = np.mean(steps, 0)
    found = {"change_error": float(by_step.mean()), "change_error_by_step": by_step.tolist()}
    return found | ({"flicker": float(moved / still)} if still else {})
