"""World i of a split as a pure function of (seed, split, i), and the arrays and truth that follow from it.

Streams are counter-based (Philox): the key is (seed, split), the counter holds the index, so splits and indices never
share a draw and clip i costs the same wherever it lies.
"""

import numpy as np

from sora_jax.types import ConfigError, Truth
from sora_jax.worlds import palette
from sora_jax.worlds.arrangements import composition, pan
from sora_jax.worlds.families import COUNTS, Draw, World, bounce, collision, occluder, parabola, uniform
from sora_jax.worlds.motion import evaluate
from sora_jax.worlds.render import Scene

PROMPTS = "prompts"  # an index stream beside those of the splits
STREAMS = (*palette.SPLITS, PROMPTS)
FAMILIES = {f.__name__: f for f in (uniform, bounce, collision, parabola, occluder, composition, pan)}
COLOURS_OF = {"collision": 2, "composition": 3, "pan": 2}  # different ones in one scene, where more than one


def stream(seed: int, name: str, index: int, attempt: int = 0) -> np.random.Generator:
    """The generator of clip `index` of a stream (a split, or PROMPTS); another `attempt` is independent."""
    key, counter = np.array([seed, STREAMS.index(name)], np.uint64), np.array([0, attempt, index, 0], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def draw_world(rng, split: str, families, cumulative, *, aspect: float = 1.0, seconds: float = 2.0,
               counts=COUNTS, colours=()) -> World:
    """One world from the split's ranges; `families` are names, `cumulative` their cumulative probabilities, `colours`
    those of `palette.pairs`."""
    speeds = palette.SPEED_OOD if split == "ood_speed" else palette.SPEED
    radii = palette.RADIUS_OOD if split == "ood_radius" else palette.RADIUS
    family = families[min(int(np.searchsorted(cumulative, rng.random(), side="right")), len(families) - 1)]
    return FAMILIES[family](Draw(rng, speeds, radii, palette.pairs(split, colours), aspect, seconds, counts))


def family_table(families, weights, split: str):
    """Names and cumulative probabilities of the families a split can show. Raises ConfigError on an unknown family."""
    weights = tuple(weights) if weights else (1.0,) * len(families)
    if len(weights) != len(families):
        raise ConfigError(
            f"weights has {len(weights)} numbers for {len(families)} families; give one per family or none"
        )
    unknown = [name for name in families if name not in FAMILIES]
    if unknown:
        raise ConfigError(f"families has no {unknown[0]!r}; it has {', '.join(FAMILIES)}")
    without = {"ood_speed": ("composition",), "held_pair": ("collision",)}.get(split, ())
    kept = [
        (name, weight) for name, weight in zip(families, weights, strict=True) if name not in without and weight > 0
    ]
    if not kept:
        raise ConfigError(
            f"split={split!r} has no meaning for families={tuple(families)}; add 'uniform' or another family"
        )
    total = np.cumsum([weight for _, weight in kept])
    return tuple(name for name, _ in kept), total / total[-1]


def check_colours(colours, families, split: str) -> None:
    """ConfigError for a colour that is none, and for colours that do not suffice for the families."""
    for name in colours:
        if name not in palette.COLOUR_NAMES:
            raise ConfigError(f"data.colours has no {name!r}; there are {', '.join(palette.COLOUR_NAMES)}")
    if palette.LIKE_SLAB in colours and "occluder" in families:
        raise ConfigError(f"data.colours names {palette.LIKE_SLAB!r}, which is not told from the slab of the family "
                          "'occluder'; leave one of them out")
    for family in families if colours else ():
        pairs = palette.pairs(split, tuple(colours))
        shown = {colour for colour, shape in pairs if shape == 0 or family != "collision"}
        if len(shown) < (need := COLOURS_OF.get(family, 1)):
            raise ConfigError(f"data.colours={tuple(colours)} of split={split!r}: {len(shown)} colours, and the family "
                              f"{family!r} shows {need} at once; name more, or families of one object")


def times(world: World, frames: int, fps: float, rng) -> np.ndarray:
    """Seconds of each frame. A single frame is a random moment of the horizon, else all images would be beginnings."""
    if frames == 1:
        return np.array([rng.random() * world.seconds])
    return np.arange(frames) / fps


def _shown(world: World, frames: int) -> str | None:
    """The direction a viewer can check: none in a single frame or where the motion turns."""
    if frames == 1:
        return None
    return {
        "uniform": world.direction,
        "occluder": world.direction,
        "pan": world.direction,
        "composition": "still",
    }.get(world.family)


def _sight(world: World, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per frame and object: whether any of it is in view, and whether all of it is."""
    visible, whole = np.zeros(position.shape[:2], bool), np.zeros(position.shape[:2], bool)
    for k in range(len(world.radius)):
        extent, (x, y) = palette.reach(world.shape[k], world.radius[k]), position[:, k].T
        left, right, top, bottom = x - extent.half_width, x + extent.half_width, y - extent.up, y + extent.down
        visible[:, k] = (right > 0) & (left < world.aspect) & (bottom > 0) & (top < 1)
        whole[:, k] = (left >= 0) & (right <= world.aspect) & (top >= 0) & (bottom <= 1)
        if world.slab:
            visible[:, k] &= (left < world.slab[0]) | (right > world.slab[1])
            whole[:, k] &= (right <= world.slab[0]) | (left >= world.slab[1])
    return visible, whole


def truth(world: World, at: np.ndarray, split: str) -> Truth:
    """Everything known about a clip: padded arrays (see `palette` for units), events, words."""
    count, frames = len(world.radius), len(at)
    position, velocity = np.zeros((frames, palette.K, 2), np.float32), np.zeros((frames, palette.K, 2), np.float32)
    position[:, :count], velocity[:, :count] = evaluate(world.path, at)
    radius, colour, shape = (
        np.zeros(palette.K, np.float32),
        np.zeros(palette.K, np.int32),
        np.zeros(palette.K, np.int32),
    )
    radius[:count], colour[:count], shape[:count] = world.radius, world.colour, world.shape
    visible, whole = _sight(world, position)
    last = at[-1]
    events = [event._asdict() for event in world.path.events if at[0] <= event.time <= last]
    return {
        "family": world.family,
        "split": palette.LABELS[split],
        "count": count,
        "position": position,
        "velocity": velocity,
        "radius": radius,
        "colour": colour,
        "shape": shape,
        "visible": visible,
        "whole": whole,
        "events": events,
        "heading": world.direction,
        "direction": _shown(world, frames),
        "relation": world.relation,
        "slab": world.slab,
        "camera": world.camera,
        "gravity": world.path.gravity,
        "pattern": world.pattern,
        "aspect": world.aspect,
        "times": at,
    }


def scene(truths: list[Truth]) -> Scene:
    """Truths of one frame count as the stacked arrays that `render` draws."""
    colour = palette.RGB[np.stack([t["colour"] for t in truths])]
    alive = np.arange(palette.K) < np.array([t["count"] for t in truths])[:, None]
    shift = np.stack([t["times"][:, None] * np.asarray(t["camera"]) for t in truths])
    return Scene(
        np.stack([t["position"] for t in truths]),
        np.stack([t["radius"] for t in truths]),
        colour,
        np.stack([t["shape"] for t in truths]),
        alive,
        np.array([t["slab"] or (1.0, 0.0) for t in truths], np.float32),
        shift.astype(np.float32),
        np.array([t["pattern"] for t in truths], np.float32),
    )
