"""Pixels back to objects: what is in a video of a procedural world, for scoring generated clips.

A pixel is grey + alpha (colour - grey); its direction from grey names the colour and its length is alpha, so blur and
partial cover cost nothing. Components per colour and frame are linked over time; the shape is the best of three
templates of equal area, by squared error summed over frames.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy import ndimage, optimize

from sora_jax.worlds import palette

ALPHA = 0.4  # a pixel belongs to an object above this share of its full colour
COSINE = 0.86  # and within 31 degrees of the colour's ray
AREA = 0.004  # smallest component, in squared heights; the smallest object (radius 0.06) has 0.011
PRESENT = 0.25  # an object exists if it is seen in this share of the frames
STILL = 0.034  # heights per second; composed objects drift at most 0.029
OBLIQUE = 35.0  # degrees off the axes beyond which a direction has no name
WHOLE = 0.85  # share of its largest area at which an object counts as unoccluded
LOOKS = 6  # frames in which the shape is judged
BLURS = (0.0, 1.0, 1.7)  # pixels, of the templates

_UNIT_AREA = (np.pi, 4 * palette.SQUARE_HALF**2, 0.75 * np.sqrt(3) * palette.TRIANGLE_CIRCUM**2)  # at radius 1


class Object(NamedTuple):
    """One object over the clip. Lengths in heights; `centroid` is NaN where unseen; `cut`: at an edge of the frame;
    `whole`: seen and neither cut nor covered; `velocity` (heights per second, least squares over whole frames) and
    `direction` (right, left, up, down, still or oblique) are None with fewer than two frames."""

    colour: str
    shape: str
    centroid: Float[np.ndarray, "f 2"]
    area: Float[np.ndarray, " f"]
    visible: Bool[np.ndarray, " f"]
    whole: Bool[np.ndarray, " f"]
    cut: Bool[np.ndarray, " f"]
    velocity: tuple[float, float] | None
    direction: str | None


class Parsed(NamedTuple):
    """The objects of a clip, in order of colour."""

    objects: tuple[Object, ...]
    fps: float

    @property
    def count(self) -> int:
        return len(self.objects)


class _Blob(NamedTuple):
    centroid: tuple[float, float]  # pixels, x and y
    area: float  # pixels
    box: tuple[slice, slice]
    edge: bool


def known(beyond: Sequence[str] = ()) -> tuple[str, ...]:
    """The colours that are told apart: the eight of the palette, and those of `beyond` that are not among them."""
    return tuple(name for name in palette.COLOUR_NAMES if name in palette.COLOURS or name in beyond)


def colours(
    video: UInt8[np.ndarray, "f h w c"], beyond: Sequence[str] = ()
) -> tuple[Int[np.ndarray, "f h w"], Float[np.ndarray, "f h w"]]:
    """Per pixel the place of the nearest colour ray in `known` (-1: background, slab or none) and alpha along it. Who
    looks for what is black sees no slab."""
    names = known(beyond)
    full = palette.RGB[[palette.COLOUR_NAMES.index(name) for name in names]]
    if palette.LIKE_SLAB not in names:
        full = np.concatenate([full, np.array([palette.SLAB], np.float32)])
    rays = full - np.array(palette.GREY, np.float32)
    lengths = np.linalg.norm(rays, axis=1)
    offset = video.astype(np.float32) - np.array(palette.GREY, np.float32)
    along = offset @ (rays / lengths[:, None]).T
    label = along.argmax(-1)
    best = np.take_along_axis(along, label[..., None], -1)[..., 0]
    near = best > COSINE * np.linalg.norm(offset, axis=-1)
    alpha = best / lengths[label]
    return np.where(near & (label < len(names)), label, -1), alpha


def _blobs(member, alpha, height: int) -> list[list[_Blob]]:
    """Components of one colour in each frame, largest first. Alpha is rescaled so that a pale object is full inside."""
    flat = np.zeros((3, 3, 3), bool)
    flat[1] = True
    parts, _ = ndimage.label(member & (alpha > ALPHA), flat)
    found = [[] for _ in range(len(member))]
    for index, box in enumerate(ndimage.find_objects(parts), 1):
        frame, inside = box[0].start, parts[box][0] == index
        if inside.sum() < AREA * height**2:
            continue
        y, x = (slice(max(s.start - 2, 0), s.stop + 2) for s in box[1:])
        near = ndimage.binary_dilation(parts[frame, y, x] == index, iterations=2)
        full = max(float(np.percentile(alpha[box][0][inside], 70)), ALPHA)
        weight = np.clip(alpha[frame, y, x] / full, 0, 1) * (near & member[frame, y, x])
        area = float(weight.sum())
        cy = float((weight.sum(1) * (np.arange(*y.indices(member.shape[1])) + 0.5)).sum() / area)
        cx = float((weight.sum(0) * (np.arange(*x.indices(member.shape[2])) + 0.5)).sum() / area)
        edge = (
            box[1].start == 0 or box[2].start == 0 or box[1].stop == member.shape[1] or box[2].stop == member.shape[2]
        )
        found[frame].append(_Blob((cx, cy), area, (y, x), edge))
    return [sorted(blobs, key=lambda blob: -blob.area) for blobs in found]


def _tracks(blobs: list[list[_Blob]]) -> list[list[_Blob | None]]:
    """Blobs of one colour linked over frames; the number of tracks is the most that enough frames show."""
    frames = len(blobs)
    sizes = np.array([len(found) for found in blobs])
    count = max(
        (n for n in range(1, sizes.max(initial=0) + 1) if (sizes >= n).sum() >= max(PRESENT * frames, 1)), default=0
    )
    tracks = [[None] * frames for _ in range(count)]
    last = [None] * count
    for frame, found in enumerate(blobs):
        found = found[:count]
        if not found:
            continue
        cost = np.array(
            [[0.0 if p is None else np.hypot(p[0] - b.centroid[0], p[1] - b.centroid[1]) for b in found] for p in last]
        )
        for track, blob in zip(*optimize.linear_sum_assignment(cost), strict=True):
            tracks[track][frame], last[track] = found[blob], found[blob].centroid
    return tracks


def _shape(track, alpha, member, usable) -> str:
    """The template of equal area and centroid with the least squared error, at the blur that suits it best."""
    frames = np.flatnonzero(usable)
    frames = frames[np.linspace(0, len(frames) - 1, min(len(frames), LOOKS)).round().astype(int)]
    errors = np.zeros((len(palette.SHAPES), len(BLURS)))
    for frame in frames:
        blob = track[frame]
        y, x = blob.box
        seen = alpha[frame, y, x] * member[frame, y, x]
        seen = np.clip(seen / max(float(np.percentile(seen[seen > ALPHA], 70)), ALPHA), 0, 1)
        dy = np.arange(y.start, y.start + seen.shape[0])[:, None] + 0.5 - blob.centroid[1]
        dx = np.arange(x.start, x.start + seen.shape[1])[None, :] + 0.5 - blob.centroid[0]
        for index, unit in enumerate(_UNIT_AREA):
            template = np.clip(0.5 - _distance(dx, dy, np.sqrt(blob.area / unit), index), 0, 1)
            for level, blur in enumerate(BLURS):
                soft = ndimage.gaussian_filter(template, blur) if blur else template
                errors[index, level] += np.square(soft - seen).sum() / blob.area
    return palette.SHAPES[int(errors.min(1).argmin())]


def _distance(x, y, radius: float, shape: int):
    """The renderer's signed distance, in numpy."""
    if shape == 0:
        return np.hypot(x, y) - radius
    if shape == 1:
        return np.maximum(np.abs(x), np.abs(y)) - palette.SQUARE_HALF * radius
    return np.maximum(y, 0.5 * (np.sqrt(3) * np.abs(x) - y)) - 0.5 * palette.TRIANGLE_CIRCUM * radius


def _motion(centroid, whole, fps: float):
    """Least-squares velocity over the whole frames and its name."""
    if whole.sum() < 2:
        return None, None
    time = np.flatnonzero(whole) / fps
    vx, vy = np.polyfit(time, centroid[whole], 1)[0].tolist()
    if np.hypot(vx, vy) < STILL:
        return (vx, vy), "still"
    angle = np.degrees(np.arctan2(min(abs(vx), abs(vy)), max(abs(vx), abs(vy))))
    name = ("right" if vx > 0 else "left") if abs(vx) > abs(vy) else ("down" if vy > 0 else "up")
    return (vx, vy), name if angle < OBLIQUE else "oblique"


def parse(video: UInt8[np.ndarray, "f h w c"], fps: float = 8.0, beyond: Sequence[str] = ()) -> Parsed:
    """Objects of a clip: colour, shape, centroid per frame, velocity, direction. Needs about 32 pixels of height.
    `beyond` names colours outside the palette's eight that may be there."""
    label, alpha = colours(video, beyond)
    height, objects = video.shape[1], []
    for colour, name in enumerate(known(beyond)):
        member = label == colour
        if member.sum() < AREA * height**2:
            continue
        for track in _tracks(_blobs(member, alpha, height)):
            visible = np.array([blob is not None for blob in track])
            area = np.array([blob.area if blob else 0.0 for blob in track]) / height**2
            centroid = np.array([blob.centroid if blob else (np.nan, np.nan) for blob in track]) / height
            cut = np.array([bool(blob and blob.edge) for blob in track])
            whole = visible & (area >= WHOLE * area.max()) & ~cut
            shape = _shape(track, alpha, member, whole if whole.any() else visible)
            motion = _motion(centroid, whole if whole.sum() > 1 else visible, fps)
            objects.append(Object(name, shape, centroid, area, visible, whole, cut, *motion))
    return Parsed(tuple(objects), fps)
