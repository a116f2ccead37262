"""Families of several objects that do not touch: `composition` (count, colour, shape, place) and `pan` (moving camera).

Objects live in disjoint cells of the frame, so they never overlap and "left of" or "above" is never in doubt.
"""

from sora_jax.worlds import palette
from sora_jax.worlds.families import FREE, MARGIN, Draw, World, inside
from sora_jax.worlds.motion import simulate

DRIFT = 0.02  # heights per second, the most a composed object moves


def _split(cell, axis: int):
    (x0, y0), (x1, y1) = cell
    if axis == 0:
        middle = 0.5 * (x0 + x1)
        return [((x0, y0), (middle, y1)), ((middle, y0), (x1, y1))]
    middle = 0.5 * (y0 + y1)
    return [((x0, y0), (x1, middle)), ((x0, middle), (x1, y1))]


def _cells(draw: Draw, count: int, axis: int):
    """`count` disjoint cells; the first cut is across `axis` (0: left and right, 1: above and below)."""
    cells = [((0.0, 0.0), (draw.aspect, 1.0))]
    if count > 1:
        cells = _split(cells[0], axis)
    if count > 2:
        side = draw.pick((0, 1))
        cells[side : side + 1] = _split(cells[side], 1 - axis)
    return cells


def _place(draw: Draw, cell, shape: int, radius: float, shift=(0.0, 0.0)) -> tuple[float, float]:
    """A centre whose object stays in its cell while it moves by `shift`."""
    extent, (low, high) = palette.reach(shape, radius), cell
    x = inside(
        draw,
        low[0] + extent.half_width + MARGIN - min(shift[0], 0),
        high[0] - extent.half_width - MARGIN - max(shift[0], 0),
    )
    y = inside(draw, low[1] + extent.up + MARGIN - min(shift[1], 0), high[1] - extent.down - MARGIN - max(shift[1], 0))
    return x, y


def _world(draw: Draw, family: str, kinds, radius, cells, velocity, **rest) -> World:
    shift = [tuple(v * draw.seconds for v in pair) for pair in velocity]
    position = [_place(draw, cell, kind[1], r, s) for cell, kind, r, s in zip(cells, kinds, radius, shift, strict=True)]
    path = simulate(position, velocity, radius, [FREE] * len(kinds), seconds=draw.seconds)
    return World(family, path, tuple(radius), *zip(*kinds, strict=True), draw.aspect, draw.seconds, **rest)


def composition(draw: Draw) -> World:
    """One to three objects, alike or different, still or drifting; two different ones stand in a named relation."""
    count, axis = draw.pick(draw.counts), draw.pick((0, 1))
    alike = count > 1 and draw.rng.random() < 0.3
    kinds = draw.kinds(1) * count if alike else draw.kinds(count)
    radius = [draw.size() for _ in range(count)]
    cells = _cells(draw, count, axis)
    relation = None
    if count == 2 and not alike:
        relation = draw.pick(palette.RELATIONS[2 * axis : 2 * axis + 2])
        cells = cells if relation in ("left of", "above") else cells[::-1]
    drift = DRIFT if draw.rng.random() < 0.5 else 0.0
    velocity = [(draw.uniform(-drift, drift), draw.uniform(-drift, drift)) for _ in range(count)]
    return _world(draw, "composition", kinds, radius, cells, velocity, relation=relation)


def pan(draw: Draw) -> World:
    """The camera pans over one or two resting objects on a faint pattern; in the frame they all move the other way."""
    count, camera = draw.pick((1, 2)), draw.pick(tuple(palette.DIRECTIONS))
    apparent = palette.OPPOSITE[camera]
    speed = draw.speed()
    velocity = tuple(speed * unit for unit in palette.DIRECTIONS[apparent])
    axis = 1 if palette.DIRECTIONS[camera][0] else 0
    cells = _cells(draw, count, axis)
    kinds, radius = draw.kinds(count), [draw.size() for _ in range(count)]
    return _world(
        draw,
        "pan",
        kinds,
        radius,
        cells,
        [velocity] * count,
        direction=apparent,
        camera=(-velocity[0], -velocity[1]),
        pattern=draw.uniform(8.0, 14.0),
    )
