"""What a source gives, made into batches: random windows of clips for the autoencoder, latents for the transformer."""
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from sora_jax.types import Batch, Clip, InputError, Packed

CANDIDATES = 4


def window(video: UInt8[np.ndarray, "f h w c"], frames: int, side: int,
           rng) -> UInt8[np.ndarray, "{frames} {side} {side} c"]:
    """The busiest of a few random windows of `frames` × `side` × `side`: flat background teaches little."""
    f, h, w, _ = video.shape
    best, busiest = None, -1.0
    for _ in range(CANDIDATES):
        t, y, x = (int(rng.integers(size - part + 1)) for size, part in ((f, frames), (h, side), (w, side)))
        part = video[t : t + frames, y : y + side, x : x + side]
        busy = float(part[::4].std(axis=(0, 1, 2)).sum())
        if busy > busiest:
            best, busiest = part, busy
    return best


class Windows:
    """A source of windows of the clips of another source: index i is clip i mod n, its random window a function of i.

    `draws` windows of each clip make the source that many times longer.
    """

    def __init__(self, source, frames: int, side: int, draws: int = 64):
        self.source, self.frames, self.side = source, frames, side
        self.length = min(len(source) * draws, 2**40)

    def __len__(self) -> int:
        return self.length

    def cut(self, video: UInt8[np.ndarray, "f h w c"], index: int) -> UInt8[np.ndarray, "fo s s c"]:
        """The window of index `index`."""
        return window(video, self.frames, self.side, np.random.default_rng((17, int(index))))

    def __getitem__(self, index: int) -> Clip:
        clip = self.source[int(index) % len(self.source)]
        return clip._replace(video=self.cut(clip.video, index))

    def batch(self, indices: Sequence[int]) -> tuple[UInt8[np.ndarray, "b f h w c"], list[str], list]:
        """Several windows at once, drawn together where the source can."""
        inner = [int(i) % len(self.source) for i in indices]
        videos, captions, truths = draw(self.source, inner)
        return np.stack([self.cut(video, i) for video, i in zip(videos, indices, strict=True)]), captions, truths


def words(clip: Clip) -> str:
    """Frames, height and width, and the file if one is known."""
    name = f" ({(clip.truth or {})['path']!a})" if "path" in (clip.truth or {}) else ""
    return "×".join(map(str, clip.video.shape[:3])) + name


def draw(source, indices: Sequence[int]) -> tuple[UInt8[np.ndarray, "b f h w c"], list[str], list]:
    """Clips of any source as stacked pixels, captions and truths; uses the source's own `batch` if it has one. Raises
    InputError naming the first clip of another size."""
    if hasattr(source, "batch"):
        return source.batch(indices)
    clips = [source[int(i)] for i in indices]
    for i, clip in zip(indices, clips, strict=True):
        if clip.video.shape != clips[0].video.shape:
            raise InputError(f"clip {i} is {words(clip)}, clip {indices[0]} is {words(clips[0])}; clips of one batch "
                             "have one size: set data.fit=center, or take them one by one")
    return np.stack([clip.video for clip in clips]), [clip.caption for clip in clips], [clip.truth for clip in clips]


def pixels(drawn: tuple | list[Clip]) -> Batch:
    """Pixels without captions, for the autoencoder. Takes what `draw` returns, or a list of clips."""
    videos = drawn[0] if isinstance(drawn, tuple) else np.stack([clip.video for clip in drawn])
    return Batch(videos, np.zeros((len(videos), 1), np.uint8), np.zeros((len(videos), 1), bool))


def rows(items: list[dict]) -> Packed:
    """Rows of clips of any sizes, for the transformer."""
    return Packed(*(np.stack([item[name] for item in items]) for name in Packed._fields))


def latents(items: list[dict]) -> Batch:
    """Cached latents with caption bytes and mask, for the transformer."""
    return Batch(
        np.stack([item["x"] for item in items]).astype(np.float32),
        np.stack([item["text"] for item in items]),
        np.stack([item["mask"] for item in items]),
    )
