"""Clips of any sizes into rows of one length, so that one compiled program trains on all of them.

Enters: how many tokens each clip has, and a row's length (NaViT, Dehghani et al. 2023, arXiv 2307.06304, section 2.1).
Leaves: which clips share a row, what is lost, and beside it what buckets of one size each, and padding, would lose.
"""
import bisect
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sora_jax.nn.patch import grid, patchify, places
from sora_jax.types import ConfigError, InputError

BUFFER = 512  # clips that are fitted together: rows stay near in the order, and fitting stays quick


class Row(NamedTuple):
    """Clips of a row, as (source, index), in the order of their tokens."""

    clips: tuple[tuple[int, int], ...]


class Waste(NamedTuple):
    """Tokens that are clips' among all that are computed, and the programs that are compiled for it."""

    useful: float
    programs: int


def shuffled(count: int, seed: int) -> np.ndarray:
    """The order in which clips are fitted into rows."""
    return np.random.default_rng((29, seed)).permutation(count)


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
        self.places = [places(laid_out(source, self.patch)) for source in sources]
        clips = [(k, i) for k, source in enumerate(sources) for i in range(len(source))]
        clips = [clips[i] for i in shuffled(len(clips), seed)]
        self.lengths = [len(self.places[k]) for k, _ in clips]
        self.rows = [Row(tuple(clips[i] for i in row)) for row in fit(self.lengths, tokens, most)]
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
        items = [(self.places[k], self.sources[k][i]) for k, i in self.rows[index].clips]
        text, width = items[0][1]["text"], int(np.prod(self.patch)) * items[0][1]["x"].shape[-1]
        made = {"tokens": np.zeros((self.tokens, width), np.float32),
                "positions": np.zeros((self.tokens, 3), np.float32),
                "segments": np.full(self.tokens, -1, np.int32),
                "text": np.zeros((self.most, *text.shape), text.dtype), "mask": np.zeros((self.most, len(text)), bool)}
        start = 0
        for k, (positions, item) in enumerate(items):
            here = slice(start, start + len(positions))
            made["tokens"][here], made["positions"][here] = patchify(item["x"][None], self.patch)[0], positions
            made["segments"][here], made["text"][k], made["mask"][k] = k, item["text"], item["mask"]
            start = here.stop
        return made


def laid_out(source, patch: tuple[int, int, int]) -> tuple[int, int, int]:
    """Tokens of a folder's clips along frames, rows and columns. Raises InputError naming the folder."""
    try:
        return grid(tuple(source.meta["shape"][:3]), patch)
    except ConfigError as error:
        raise InputError(f"{getattr(source, 'path', 'latents')}: {error}, or leave it out of data.native") from error


def table(sizes: Sequence[tuple[int, int, int]], counts: Sequence[int], tokens: int, most: int, seed: int = 0) -> str:
    """The pre-flight table of a mix: clips of each layout (frames, rows, columns in tokens), and what packing, buckets
    and padding would waste on it."""
    flat = [size for size, count in zip(sizes, counts, strict=True) for _ in range(count)]
    mixed = [flat[i] for i in shuffled(len(flat), seed)]
    lengths = [int(np.prod(size)) for size in mixed]
    lines = [f"{'layout':>12}{'tokens':>8}{'clips':>9}"]
    lines += [f"{'×'.join(map(str, size)):>12}{int(np.prod(size)):8}{count:9,}"
              for size, count in zip(sizes, counts, strict=True)]
    lines.append(f"{'':12}{'useful':>10}{'programs':>10}")
    for name, waste in (("packed", packed(lengths, tokens, most)), ("buckets", bucketed(mixed, lengths, tokens)),
                        ("padding", padded(lengths))):
        lines.append(f"{name:>12}{waste.useful:10.1%}{waste.programs:10}")
    return "\n".join(lines)
