"""How each family of scenes is drawn: a `World` is the complete, resolution-free description of one clip.

Every family is a function `Draw -> World`. `seconds` is the horizon for which "stays in view" and "an event happens"
are promised; frame rate and frame count never enter, so a clip is the same physical event at any sampling.
"""

import math
from typing import NamedTuple

import numpy as np

from sora_jax.worlds import palette
from sora_jax.worlds.motion import Path, simulate

MARGIN = 0.01
COUNTS = (1, 2, 2, 3)
HIDDEN = 0.025  # heights by which a slab reaches past the object on each side: a sixth of a second out of sight


class World(NamedTuple):
    """One scene. `direction` is the heading at the start, `slab` the x range of an occluder, `camera` a velocity."""

    family: str
    path: Path
    radius: tuple[float, ...]
    colour: tuple[int, ...]
    shape: tuple[int, ...]
    aspect: float
    seconds: float
    direction: str | None = None
    relation: str | None = None
    slab: tuple[float, float] | None = None
    camera: tuple[float, float] = (0.0, 0.0)
    pattern: float = 0.0


class Draw(NamedTuple):
    """Where a family takes its numbers from: a generator, the ranges of the split, the allowed (colour, shape), and the
    numbers of objects of a composition, each as likely as the next."""

    rng: np.random.Generator
    speeds: tuple[tuple[float, float], ...]
    radii: tuple[tuple[float, float], ...]
    pairs: tuple[tuple[int, int], ...]
    aspect: float
    seconds: float
    counts: tuple[int, ...] = COUNTS

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self.rng.random()

    def pick(self, options):
        return options[int(self.rng.random() * len(options))]

    def speed(self) -> float:
        return self.uniform(*self.pick(self.speeds))

    def size(self) -> float:
        return self.uniform(*self.pick(self.radii))

    def kinds(self, count: int) -> tuple[tuple[int, int], ...]:
        """`count` (colour, shape) pairs of different colours."""
        chosen = []
        while len(chosen) < count:
            pair = self.pick(self.pairs)
            if all(pair[0] != other[0] for other in chosen):
                chosen.append(pair)
        return tuple(chosen)


def inside(draw: Draw, low: float, high: float) -> float:
    """A number in [low, high], or the middle when the room is gone (an object larger than its cell)."""
    return draw.uniform(low, high) if high > low else 0.5 * (low + high)


def _bounds(shape: int, radius: float, aspect: float):
    extent = palette.reach(shape, radius)
    return (extent.half_width, extent.up), (aspect - extent.half_width, 1.0 - extent.down)


FREE = ((-math.inf, -math.inf), (math.inf, math.inf))


def _crossing(draw: Draw, bounds, velocity) -> tuple[float, float]:
    """A start from which constant `velocity` keeps the centre within `bounds` for the horizon, where possible."""
    start = []
    for low, high, v in zip(*bounds, velocity, strict=True):
        travel = v * draw.seconds
        start.append(inside(draw, low + MARGIN - min(travel, 0.0), high - MARGIN - max(travel, 0.0)))
    return start[0], start[1]


def uniform(draw: Draw) -> World:
    """One object crosses the frame at constant velocity along an axis and stays in view."""
    (colour, shape), radius, speed = draw.pick(draw.pairs), draw.size(), draw.speed()
    direction = draw.pick(tuple(palette.DIRECTIONS))
    velocity = tuple(speed * unit for unit in palette.DIRECTIONS[direction])
    start = _crossing(draw, _bounds(shape, radius, draw.aspect), velocity)
    path = simulate([start], [velocity], (radius,), [FREE], seconds=draw.seconds)
    return World("uniform", path, (radius,), (colour,), (shape,), draw.aspect, draw.seconds, direction)


def bounce(draw: Draw) -> World:
    """One object meets a wall between a quarter and two thirds of the horizon and is reflected."""
    (colour, shape), radius, speed = draw.pick(draw.pairs), draw.size(), draw.speed()
    direction, angle = draw.pick(tuple(palette.DIRECTIONS)), draw.uniform(-0.6, 0.6)
    ux, uy = palette.DIRECTIONS[direction]
    velocity = (
        speed * (ux * math.cos(angle) - uy * math.sin(angle)),
        speed * (uy * math.cos(angle) + ux * math.sin(angle)),
    )
    bounds = _bounds(shape, radius, draw.aspect)
    axis = 0 if ux else 1
    wall = bounds[1][axis] if ux + uy > 0 else bounds[0][axis]
    start = [inside(draw, bounds[0][i], bounds[1][i]) for i in (0, 1)]
    start[axis] = wall - velocity[axis] * draw.uniform(0.25, 0.65) * draw.seconds
    start[axis] = min(max(start[axis], bounds[0][axis]), bounds[1][axis])
    path = simulate([start], [velocity], (radius,), [bounds], seconds=draw.seconds)
    return World("bounce", path, (radius,), (colour,), (shape,), draw.aspect, draw.seconds, direction)


def collision(draw: Draw) -> World:
    """Two circles approach along a nearly horizontal line and collide elastically within the horizon."""
    pairs = tuple(pair for pair in draw.pairs if pair[1] == 0)
    kinds = draw._replace(pairs=pairs).kinds(2)
    radius, speed = (draw.size(), draw.size()), (draw.speed(), draw.speed())
    closing, distance = sum(speed), sum(radius)
    offset = draw.uniform(-0.35, 0.35) * distance
    along = math.sqrt(distance**2 - offset**2)
    room = draw.aspect - distance - along - 2 * MARGIN
    time = min(draw.uniform(0.3, 0.6) * draw.seconds, max(room, 0.0) / closing)
    left = inside(draw, radius[0] + MARGIN, radius[0] + MARGIN + room - closing * time)
    top = max(radius[0], radius[1] - offset)
    y = inside(draw, top, 1.0 - max(radius[0], radius[1] + offset))
    position = ((left, y), (left + closing * time + along, y + offset))
    bounds = [_bounds(0, r, draw.aspect) for r in radius]
    path = simulate(position, ((speed[0], 0.0), (-speed[1], 0.0)), radius, bounds, collide=True, seconds=draw.seconds)
    return World("collision", path, radius, *zip(*kinds, strict=True), draw.aspect, draw.seconds)


def parabola(draw: Draw) -> World:
    """One object is thrown sideways, falls under gravity and bounces on the floor."""
    (colour, shape), radius, speed = draw.pick(draw.pairs), draw.size(), draw.speed()
    direction = draw.pick(("right", "left"))
    velocity = (speed * palette.DIRECTIONS[direction][0], 0.0)
    bounds = _bounds(shape, radius, draw.aspect)
    x, _ = _crossing(draw, bounds, velocity)
    y = inside(draw, bounds[0][1], max(0.45, bounds[0][1]))
    path = simulate([(x, y)], [velocity], (radius,), [bounds], gravity=palette.GRAVITY, seconds=draw.seconds)
    return World("parabola", path, (radius,), (colour,), (shape,), draw.aspect, draw.seconds, direction)


def occluder(draw: Draw) -> World:
    """One object, among the smallest and fastest of its split, passes behind an opaque slab and reappears."""
    high, (r_low, r_high) = max(draw.speeds)[1], min(draw.radii)
    (colour, shape), speed = draw.pick(draw.pairs), draw.uniform(0.94 * high, high)
    radius = draw.uniform(r_low, r_low + 0.1 * (r_high - r_low))
    direction = draw.pick(("right", "left"))
    velocity = (speed * palette.DIRECTIONS[direction][0], 0.0)
    start = _crossing(draw, _bounds(shape, radius, draw.aspect), velocity)
    middle = start[0] + 0.5 * velocity[0] * draw.seconds
    half = palette.reach(shape, radius).half_width + HIDDEN
    path = simulate([start], [velocity], (radius,), [FREE], seconds=draw.seconds)
    slab = (middle - half, middle + half)
    return World("occluder", path, (radius,), (colour,), (shape,), draw.aspect, draw.seconds, direction, slab=slab)
