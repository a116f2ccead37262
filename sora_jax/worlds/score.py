"""How well a parsed video keeps what its caption promised, and how far its motion is from the true one."""

import numpy as np

from sora_jax.types import Truth
from sora_jax.worlds import palette
from sora_jax.worlds.parse import Object, Parsed
from sora_jax.worlds.specification import Specification

APART = 0.02  # heights by which "left of" must hold


def _placed(parsed: Parsed, relation) -> bool:
    """Whether an object of the first kind stands in the relation to one of the second, on average over time."""
    first, word, second = relation
    axis, sign = {"left of": (0, 1), "right of": (0, -1), "above": (1, 1), "below": (1, -1)}[word]
    centre = {id(o): np.nanmean(o.centroid, 0)[axis] for o in parsed.objects}
    pairs = [(a, b) for a in parsed.objects for b in parsed.objects if a is not b]
    pairs = [(a, b) for a, b in pairs if (a.colour, a.shape) == first and (b.colour, b.shape) == second]
    return any(sign * (centre[id(b)] - centre[id(a)]) > APART for a, b in pairs)


def score(parsed: Parsed, spec: Specification) -> dict[str, bool]:
    """count, colour and shape (as multisets), direction (of every object), place, and all (with the right pairs).

    Where the specification asks for no direction or relation, that entry is True.
    """
    kinds = sorted((o.colour, o.shape) for o in parsed.objects)
    result = {
        "count": parsed.count == spec.count,
        "colour": sorted(c for c, _ in kinds) == sorted(c for c, _ in spec.kinds),
        "shape": sorted(s for _, s in kinds) == sorted(s for _, s in spec.kinds),
        "direction": spec.direction is None
        or bool(kinds)
        and all(o.direction == spec.direction for o in parsed.objects),
        "place": spec.relation is None or _placed(parsed, spec.relation),
    }
    return result | {"all": tuple(kinds) == spec.kinds and all(result.values())}


def _partner(parsed: Parsed, truth: Truth, k: int) -> Object | None:
    """The parsed object of the colour of true object k that is nearest to it over time."""
    colour = palette.COLOUR_NAMES[truth["colour"][k]]
    options = [o for o in parsed.objects if o.colour == colour and o.visible.any()]
    return min(options, key=lambda o: np.nanmean(np.hypot(*(o.centroid - truth["position"][:, k]).T)), default=None)


def velocity_error(parsed: Parsed, truth: Truth) -> float:
    """Mean |v - v_hat| over objects and frames, in heights per second (PhyWorld, arXiv 2411.02385).

    Velocities are differences of successive centres times fps, true ones too, so an event between two frames is no
    error. Frames in which the true object is cut or covered are left out; of a collision only what follows counts.
    NaN when an object was not found or no frame is left. PhyWorld's frame is 10 units high: divide its figures by 10.
    """
    contact = [event["time"] for event in truth["events"] if event["kind"] == "collision"]
    after = truth["times"][:-1] >= (contact[0] if contact else -np.inf)
    errors = []
    for k in range(truth["count"]):
        found = _partner(parsed, truth, k)
        if found is None:
            return float("nan")
        error = np.diff(found.centroid - truth["position"][:, k], axis=0) * parsed.fps
        usable = after & truth["whole"][:-1, k] & truth["whole"][1:, k] & found.visible[:-1] & found.visible[1:]
        errors.append(np.hypot(*error[usable].T))
    errors = np.concatenate(errors)
    return float(errors.mean()) if len(errors) else float("nan")
