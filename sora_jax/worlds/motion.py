"""Exact motion of up to K objects: straight lines or parabolas between events, and the events themselves.

`simulate` finds every wall contact and elastic collision in closed form (mass ~ radius squared, restitution 1) and
returns a `Path`; `evaluate` reads it at any times, so one path serves every frame rate. Units as in `palette`.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

NEVER = math.inf


class Event(NamedTuple):
    """A contact: `kind` is wall_right, wall_left, wall_up, wall_down or collision; `objects` are indices."""

    time: float
    kind: str
    objects: tuple[int, ...]


class Path(NamedTuple):
    """Piecewise motion: segment s starts at `start[s]` and holds until the next; gravity pulls along +y."""

    start: Float[np.ndarray, " s"]
    position: Float[np.ndarray, "s k 2"]
    velocity: Float[np.ndarray, "s k 2"]
    gravity: float
    events: tuple[Event, ...]


def evaluate(
    path: Path, times: Float[np.ndarray, " f"]
) -> tuple[Float[np.ndarray, "f k 2"], Float[np.ndarray, "f k 2"]]:
    """Position (heights) and velocity (heights per second) at each time (seconds)."""
    segment = np.maximum(np.searchsorted(path.start, times, side="right") - 1, 0)
    elapsed = (times - path.start[segment])[:, None, None]
    pull = np.array([0.0, path.gravity])
    position = path.position[segment] + path.velocity[segment] * elapsed + 0.5 * pull * elapsed**2
    return position, path.velocity[segment] + pull * elapsed


def _wall(x: float, v: float, low: float, high: float) -> tuple[float, int]:
    """Time until a coordinate moving at constant speed reaches its bound, and which side (-1, +1)."""
    if v > 0:
        return max((high - x) / v, 0.0), 1
    if v < 0:
        return max((low - x) / v, 0.0), -1
    return NEVER, 0


def _fall(y: float, v: float, g: float, low: float, high: float) -> tuple[float, int]:
    """As `_wall`, with constant acceleration g > 0 towards the high bound (the floor)."""
    ceiling = v * v - 2 * g * (y - low)
    if v < 0 and ceiling > 0:
        return max((-v - math.sqrt(ceiling)) / g, 0.0), -1
    if math.isinf(high):
        return NEVER, 0
    return (-v + math.sqrt(max(v * v + 2 * g * (high - y), 0.0))) / g, 1


def _contact(p, v, q, w, distance: float) -> float:
    """Time until two centres approaching each other are `distance` apart (gravity cancels)."""
    dx, dy, ux, uy = q[0] - p[0], q[1] - p[1], w[0] - v[0], w[1] - v[1]
    closing = dx * ux + dy * uy
    if closing >= 0:
        return NEVER
    speed2 = ux * ux + uy * uy
    inside = closing * closing - speed2 * (dx * dx + dy * dy - distance * distance)
    if inside <= 0:
        return NEVER
    return max((-closing - math.sqrt(inside)) / speed2, 0.0)


def _next(p, v, radius, bounds, gravity, collide):
    """The soonest event: (time from now, kind, objects)."""
    best = (NEVER, "", ())
    for i in range(len(p)):
        low, high = bounds[i]
        time, side = _wall(p[i][0], v[i][0], low[0], high[0])
        if time < best[0]:
            best = (time, "wall_right" if side > 0 else "wall_left", (i,))
        fall = (
            _fall(p[i][1], v[i][1], gravity, low[1], high[1]) if gravity else _wall(p[i][1], v[i][1], low[1], high[1])
        )
        if fall[0] < best[0]:
            best = (fall[0], "wall_down" if fall[1] > 0 else "wall_up", (i,))
        for j in range(i + 1 if collide else len(p), len(p)):
            time = _contact(p[i], v[i], p[j], v[j], radius[i] + radius[j])
            if time < best[0]:
                best = (time, "collision", (i, j))
    return best


def _exchange(p, v, radius, i: int, j: int) -> None:
    """Elastic collision in place: the impulse acts along the line of centres; mass is radius squared."""
    nx, ny = p[j][0] - p[i][0], p[j][1] - p[i][1]
    length = math.hypot(nx, ny)
    nx, ny = nx / length, ny / length
    mass_i, mass_j = radius[i] ** 2, radius[j] ** 2
    closing = (v[i][0] - v[j][0]) * nx + (v[i][1] - v[j][1]) * ny
    impulse = 2 * closing * mass_i * mass_j / (mass_i + mass_j)
    v[i] = [v[i][0] - impulse / mass_i * nx, v[i][1] - impulse / mass_i * ny]
    v[j] = [v[j][0] + impulse / mass_j * nx, v[j][1] + impulse / mass_j * ny]


def simulate(position, velocity, radius, bounds, *, gravity=0.0, collide=False, seconds=2.0, limit=256) -> Path:
    """Exact path of k objects for `seconds` and the event after it.

    `position`, `velocity`: k pairs; `radius`: k numbers; `bounds`: k pairs (low xy, high xy) that the centres reflect
    from, infinite for no wall. At most `limit` events, so that a stuck scene ends.
    """
    p, v = [list(map(float, x)) for x in position], [list(map(float, x)) for x in velocity]
    now, starts, positions, velocities, events = 0.0, [0.0], [[list(x) for x in p]], [[list(x) for x in v]], []
    while now < seconds and len(events) < limit:
        time, kind, objects = _next(p, v, radius, bounds, gravity, collide)
        if time == NEVER:
            break
        for a, b in zip(p, v, strict=True):
            a[0] += b[0] * time
            a[1] += b[1] * time + 0.5 * gravity * time * time
            b[1] += gravity * time
        if kind == "collision":
            _exchange(p, v, radius, *objects)
        else:
            axis = 0 if kind in ("wall_right", "wall_left") else 1
            v[objects[0]][axis] = -v[objects[0]][axis]
        now += time
        starts.append(now)
        positions.append([list(x) for x in p])
        velocities.append([list(x) for x in v])
        events.append(Event(now, kind, objects))
    return Path(np.array(starts), np.array(positions), np.array(velocities), float(gravity), tuple(events))
