"""Clips of any sizes into rows of one length, so that one compiled program trains on all of them.

Enters: how many tokens each clip has, and a row's length (NaViT, Dehghani et al. 2023, arXiv 2307.06304, section 2.1).
Leaves: which clips share a row, what is lost, and beside it what buckets of one size each, and padding, would lose.
"""
import bisect
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from einops import rearrange

from sora_jax.types import ConfigError, InputError

BUFFER = 512  # clips that are fitted together: rows stay near in the order, and fitting stays quick


class Row(NamedTuple):
    """Clips of a row, as (source, index), in the order of their tokens."""

    clips: tuple[tuple[int, int], ...]


class Waste(NamedTuple):
    """Tokens that are clips' among all that are computed, and the programs that are compiled for it."""

    useful: float
    programs: int


def fit(lengths: Sequence[int], tokens: int, most: int) -> list[list[int]]:
    """Which clips share a row of `tokens` tokens, at most `most` of them: the longest first, each into the fullest row
    that still takes it. Raises ConfigError for a clip that no row takes."""
    rows: list[list[int]] = []
    for start in range(0, len(lengths), BUFFER):
        part = range(start, min(start + BUFFER, len(lengths)))
        room: list[tuple[int, int]] = []  # (tokens left, row), sorted
        for clip in sorted(part, key=lambda clip: (-lengths[clip], clip)):
            if not 0 < lengths[clip] <= tokens:
                raise ConfigError(f"a clip of {lengths[clip]} tokens does not fit into train.pack_tokens={tokens}")
            at = bisect.bisect_left(room, (lengths[clip], -1))
            if at < len(room):
                left, row = room.pop(at)
            else:
                left, row = tokens, len(rows)
                rows.append([])
            rows[row].append(clip)
            if left > lengths[clip] and len(rows[row]) < most:
                bisect.insort(room, (left - lengths[clip], row))
    return rows


def packed(lengths: Sequence[int], tokens: int, most: int) -> Waste:
    """What rows waste."""
    rows = fit(lengths, tokens, most)
    return Waste(sum(lengths) / (len(rows) * tokens), 1)


def padded(lengths: Sequence[int]) -> Waste:
    """What is wasted where every clip is padded to the longest."""
    return Waste(sum(lengths) / (len(lengths) * max(lengths)), 1)


def bucketed(sizes: Sequence[tuple[int, ...]], lengths: Sequence[int], tokens: int) -> Waste:
    """What is wasted where batches hold clips of one size, as many as `tokens` pay for, and a last batch that is not
    full is filled up."""
    spent = 0
    for size in sorted(set(sizes)):
        members = [length for one, length in zip(sizes, lengths, strict=True) if one == size]
        each = max(1, tokens // members[0])
        spent += -(-len(members) // each) * each * members[0]
    return Waste(sum(lengths) / spent, len(set(sizes)))


class Packed:
    """A source of rows over several sources of latents, each of one size; every pass shows every clip once. Which clips
    share a row is drawn once from `seed`: they do not see one another.

    Item i is a dict of the fields of `types.Packed` without the leading axis."""

    def __init__(self, sources: Sequence, patch: tuple[int, int, int], tokens: int, most: int, seed: int = 0):
        self.sources, self.patch, self.tokens, self.most = list(sources), tuple(patch), tokens, most
        self.grids = [grid(source.meta["shape"][:3], patch, getattr(source, "path", "")) for source in sources]
        places = [(k, i) for k, source in enumerate(sources) for i in range(len(source))]
        order = np.random.default_rng((29, seed)).permutation(len(places))
        places = [places[i] for i in order]
        self.lengths = [int(np.prod(self.grids[k])) for k, _ in places]
        self.rows = [Row(tuple(places[i] for i in row)) for row in fit(self.lengths, tokens, most)]
        self.meta = sources[0].meta

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def clips_per_row(self) -> float:
        """Clips of a row, on average over a pass."""
        return len(self.lengths) / len(self.rows)

    @property
    def useful(self) -> float:
        """Tokens that are a clip's, of all."""
        return sum(self.lengths) / (len(self.rows) * self.tokens)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        items = [(self.grids[k], self.sources[k][i]) for k, i in self.rows[index].clips]
        length, width = len(items[0][1]["text"]), int(np.prod(self.patch)) * items[0][1]["x"].shape[-1]
        made = {"tokens": np.zeros((self.tokens, width), np.float32),
                "positions": np.zeros((self.tokens, 3), np.float32),
                "segments": np.full(self.tokens, -1, np.int32), "text": np.zeros((self.most, length), np.uint8),
                "mask": np.zeros((self.most, length), bool)}
        start = 0
        for k, (layout, item) in enumerate(items):
            here = slice(start, start + int(np.prod(layout)))
            made["tokens"][here], made["positions"][here] = patches(item["x"], self.patch), places_of(layout)
            made["segments"][here], made["text"][k], made["mask"][k] = k, item["text"], item["mask"]
            start = here.stop
        return made


def grid(shape: Sequence[int], patch: Sequence[int], name: object) -> tuple[int, int, int]:
    """Tokens along frames, rows and columns. Raises InputError if the patch does not divide the latents of a folder."""
    if any(size % part for size, part in zip(shape, patch, strict=True)):
        raise InputError(f"model.patch={tuple(patch)} does not divide the latents {tuple(shape)} of {name}; encode "
                         "clips of another size, or leave that folder out of data.native")
    return tuple(size // part for size, part in zip(shape, patch, strict=True))


def patches(x: np.ndarray, patch: tuple[int, int, int]) -> np.ndarray:
    """One clip's latents as tokens, as `nn.patch.patchify` makes them."""
    f, h, w = patch
    return rearrange(x, "(f pf) (h ph) (w pw) z -> (f h w) (pf ph pw z)", pf=f, ph=h, pw=w)


def places_of(layout: tuple[int, int, int]) -> np.ndarray:
    """(frame, row, column) of every token."""
    return np.stack(np.meshgrid(*map(np.arange, layout), indexing="ij"), axis=-1).reshape(-1, 3).astype(np.float32)


def table(sizes: Sequence[tuple[int, int, int]], counts: Sequence[int], tokens: int, most: int, seed: int = 0) -> str:
    """The pre-flight table of a mix: clips of each layout (frames, rows, columns in tokens), and what packing, buckets
    and padding would waste on it."""
    order = np.random.default_rng((29, seed)).permutation(sum(counts))
    flat = [size for size, count in zip(sizes, counts, strict=True) for _ in range(count)]
    mixed = [flat[i] for i in order]
    lengths = [int(np.prod(size)) for size in mixed]
    lines = [f"{'layout':>12}{'tokens':>8}{'clips':>9}"]
    lines += [f"{'×'.join(map(str, size)):>12}{int(np.prod(size)):8}{count:9,}"
              for size, count in zip(sizes, counts, strict=True)]
    lines.append(f"{'':12}{'useful':>10}{'programs':>10}")
    for name, waste in (("packed", packed(lengths, tokens, most)), ("buckets", bucketed(mixed, lengths, tokens)),
                        ("padding", padded(lengths))):
        lines.append(f"{name:>12}{waste.useful:10.1%}{waste.programs:10}")
    return "\n".join(lines)
