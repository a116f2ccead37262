"""What a procedural world is made of: colours, shapes, directions, the ranges of each split, and the held-out pairs.

Lengths are in frame heights, times in seconds, x runs right in [0, aspect], y runs down in [0, 1]. Colours were chosen
so that, seen from the grey background, every two point at least 30 degrees apart: blur and partial cover move a pixel
along its own ray, never towards another colour.
"""

from typing import NamedTuple

import numpy as np

K = 4  # objects per clip, after padding

GREY = (128, 128, 128)
SLAB = (40, 40, 40)
COLOURS = {
    "red": (235, 20, 20),
    "green": (20, 215, 40),
    "blue": (20, 40, 250),
    "yellow": (250, 240, 20),
    "orange": (255, 130, 0),
    "purple": (135, 15, 235),
    "cyan": (20, 220, 235),
    "pink": (255, 105, 195),
}
# Colours that no clip shows unless it is asked to, for models that learn a new one.
BEYOND = {"salmon": (250, 160, 120), "black": (20, 20, 20)}
LIKE_SLAB = "black"  # lies on the slab's ray
COLOUR_NAMES = (*COLOURS, *BEYOND)
RGB = np.array((*COLOURS.values(), *BEYOND.values()), np.float32)
SHAPES = ("circle", "square", "triangle")
DIRECTIONS = {"right": (1.0, 0.0), "left": (-1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
OPPOSITE = {"right": "left", "left": "right", "up": "down", "down": "up"}
RELATIONS = ("left of", "right of", "above", "below")

# Half width, reach above and reach below the centre, in radii. The square has the area of the circle; the triangle is
# equilateral, upright, centred on its centroid and slightly smaller than equal area, which keeps it inside its cell.
SQUARE_HALF = float(np.sqrt(np.pi) / 2)
TRIANGLE_CIRCUM = 1.35
REACH = (
    (1.0, 1.0, 1.0),
    (SQUARE_HALF, SQUARE_HALF, SQUARE_HALF),
    (TRIANGLE_CIRCUM * float(np.sqrt(3)) / 2, TRIANGLE_CIRCUM, TRIANGLE_CIRCUM / 2),
)

SPLITS = ("train", "val", "ood_speed", "ood_radius", "held_pair")
LABELS = {"train": "id", "val": "id", "ood_speed": "ood_speed", "ood_radius": "ood_radius", "held_pair": "held_pair"}
SPEED = ((0.125, 0.32),)  # heights per second: a quarter to almost two thirds of the frame in two seconds
SPEED_OOD = ((0.04, 0.09), (0.38, 0.44))
RADIUS = ((0.10, 0.15),)
RADIUS_OOD = ((0.06, 0.08), (0.18, 0.21))
GRAVITY = 0.6  # heights per second squared

HELD_PAIRS = (("blue", "triangle"), ("green", "square"), ("orange", "circle"), ("purple", "square"))


class Reach(NamedTuple):
    """How far an object extends from its centre, in frame heights."""

    half_width: float
    up: float
    down: float


def reach(shape: int, radius: float) -> Reach:
    """Extent of a shape (index into SHAPES) of a given radius."""
    return Reach(*(radius * unit for unit in REACH[shape]))


def _indices(pairs) -> tuple[tuple[int, int], ...]:
    return tuple((COLOUR_NAMES.index(colour), SHAPES.index(shape)) for colour, shape in pairs)


HELD = _indices(HELD_PAIRS)
TRAINED = tuple(pair for pair in ((c, s) for c in range(len(COLOURS)) for s in range(len(SHAPES))) if pair not in HELD)


def pairs(split: str, colours: tuple[str, ...] = ()) -> tuple[tuple[int, int], ...]:
    """The (colour, shape) that a split shows, each as likely as the next; with `colours` those of these names, a name
    that stands there twice being twice as likely."""
    if not colours:
        return HELD if split == "held_pair" else TRAINED
    every = ((COLOUR_NAMES.index(name), shape) for name in colours for shape in range(len(SHAPES)))
    return tuple(pair for pair in every if (pair in HELD) == (split == "held_pair"))
