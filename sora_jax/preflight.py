"""What becomes of video files of all sizes, before they are encoded: each is kept whole, cropped to whole tokens,
shortened to whole latent frames or to a row, or dropped, with its reason.

Enters: what files say of themselves and their first frames, the compression of the autoencoder, the patch, and how
many tokens a row takes.
"""
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from sora_jax import packing, video

Three = tuple[int, int, int]


class Grain(NamedTuple):
    """How pixels become tokens: `ratio` and `patch` in (time, height, width), at `fps` frames a second; at most
    `tokens` tokens a clip. Pictures are shrunk until their shorter side has `side` pixels; 0: never."""

    ratio: Three
    patch: Three
    fps: float
    tokens: int
    side: int = 0


class Planned(NamedTuple):
    """A file, its frames, height and width at the rate that is asked for, what is used of them (None: dropped), the
    tokens that makes along each axis, and what was lost."""

    name: str
    seen: Three
    used: Three | None
    layout: Three | None
    reason: str

    @property
    def share(self) -> float:
        """Pixels that are used."""
        if self.used is None:
            return 0.0
        (f, h, w), (tall, high, wide) = self.used, self.seen
        return f * h * w / (tall * high * wide)


def plan(name: str, seen: Three, grain: Grain) -> Planned:
    """What is used of a clip of `seen` = (frames, height, width): whole tokens, and as many frames as fit."""
    frames, *sides = seen
    cells = [side // (ratio * part) for side, ratio, part in zip(sides, grain.ratio[1:], grain.patch[1:], strict=True)]
    least = [ratio * part for ratio, part in zip(grain.ratio, grain.patch, strict=True)]
    needed = 1 + (grain.patch[0] - 1) * grain.ratio[0]
    if not all(cells):
        return Planned(name, seen, None, None, f"dropped: {sides[0]}×{sides[1]} is less than a token, "
                                               f"{least[1]}×{least[2]}")
    if frames < needed:
        return Planned(name, seen, None, None, f"dropped: {frames} frames, a token needs {needed}")
    deep = (1 + (frames - 1) // grain.ratio[0]) // grain.patch[0]
    fits = grain.tokens // (cells[0] * cells[1])
    if not fits:
        return Planned(name, seen, None, None, f"dropped: a frame of {cells[0] * cells[1]} tokens, a row takes "
                                               f"{grain.tokens}")
    layout = (min(deep, fits), *cells)
    used = (1 + (layout[0] * grain.patch[0] - 1) * grain.ratio[0],
            *(n * part for n, part in zip(cells, least[1:], strict=True)))
    lost = [f"shortened to {used[0]} of {frames} frames"] if used[0] != frames else []
    lost += [f"cropped to {used[1]}×{used[2]} of {sides[0]}×{sides[1]}"] if used[1:] != seen[1:] else []
    return Planned(name, seen, used, layout, "; ".join(lost) or "kept")


def files(root: Path, names: Iterable[str], grain: Grain) -> list[Planned]:
    """`plan` for files; one that cannot be read is dropped with the reason."""
    made = []
    for name in names:
        try:
            info = video.probe(root / name)
            height, width = next(iter(video.stream(root / name))).shape[:2]  # upright, as a file may not say
        except video.MediaError as error:
            made.append(Planned(name, (0, 0, 0), None, None, f"dropped: {video.REASONS[error.reason]}"))
            continue
        shrunk = min(1.0, grain.side / min(height, width)) if grain.side else 1.0
        sides = (round(shrunk * height), round(shrunk * width))
        made.append(plan(name, (max(1, int(info.seconds * grain.fps + 1e-6)), *sides), grain))
    return made


def layouts(plans: Sequence[Planned]) -> dict[Three, list[Planned]]:
    """The files that are used, by layout, the most tokens first."""
    found: dict[Three, list[Planned]] = {}
    for one in plans:
        if one.layout is not None:
            found.setdefault(one.layout, []).append(one)
    return dict(sorted(found.items(), key=lambda item: (-item[0][0] * item[0][1] * item[0][2], item[0])))


def table(plans: Sequence[Planned], tokens: int, most: int) -> str:
    """How many files are kept, cropped, shortened and dropped, why, how much of their pixels is used, and what rows,
    buckets and padding would waste."""
    kinds = Counter(one.reason.split(":")[0].split(" ")[0] for one in plans)
    lines = [f"{sum(kinds.values())} files: " + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))]
    lines += [f"  {one.name}: {one.reason}" for one in plans if one.reason != "kept"]
    by = layouts(plans)
    if by:
        used = [one for members in by.values() for one in members]
        lines.append(f"{sum(one.share for one in used) / len(used):.1%} of the pixels of what is not dropped are used")
        lines.append(packing.table(list(by), [len(members) for members in by.values()], tokens, most))
    return "\n".join(lines)
