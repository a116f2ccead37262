"""Captions from truth: a grammar with controlled paraphrases in two languages, a tenth of which is never trained on.

`withheld(text)` is a hash of the text alone: train and val streams never show a withheld caption, whatever their
length, seed or config; `prompts` takes its unseen texts from there.
"""

import hashlib

import numpy as np

from sora_jax.types import Truth
from sora_jax.worlds import chinese, english, palette

LANGUAGES = {"en": english, "zh": chinese}
STYLES = ("short", "dense")
COMMONEST = 0.5  # probability of the first template of a list
WITHHELD_TENTH = 10
SALT = b"sora_jax captions 1"  # under this salt "a red circle moves right" is a training caption
SIZE_EDGES = (0.09, 0.117, 0.134, 0.16)  # heights: tiny | small | medium | large | huge
PACE_EDGES = (0.10, 0.18, 0.25, 0.35)  # heights per second


def withheld(text: str) -> bool:
    """Whether a caption belongs to the tenth that no training clip ever carries."""
    digest = hashlib.blake2b(" ".join(text.casefold().split()).encode(), digest_size=8, key=SALT).digest()
    return int.from_bytes(digest, "big") % WITHHELD_TENTH == 0


def _pick(rng: np.random.Generator, options):
    return options[int(rng.random() * len(options))]


def _template(rng: np.random.Generator, templates: tuple[str, ...]) -> str:
    return templates[0] if rng.random() < COMMONEST else _pick(rng, templates[1:])


def _level(value: float, edges: tuple[float, ...]) -> int:
    return sum(value >= edge for edge in edges)


def _place(words, truth: Truth) -> str:
    x, y = truth["position"][0, 0].tolist()
    row, column = _level(y, (1 / 3, 2 / 3)), _level(x / truth["aspect"], (1 / 3, 2 / 3))
    return words.PLACES[row][column]


def _kinds(truth: Truth) -> list[tuple[str, str, int]]:
    """(colour name, shape name, size level) of each object."""
    count = truth["count"]
    triples = zip(
        truth["colour"][:count].tolist(), truth["shape"][:count].tolist(), truth["radius"][:count].tolist(), strict=True
    )
    return [(palette.COLOUR_NAMES[c], palette.SHAPES[s], _level(r, SIZE_EDGES)) for c, s, r in triples]


def _nouns(words, kinds, sized: bool) -> str:
    """The objects as a list; objects that are all alike are counted (sizes are then left out)."""
    if len(kinds) > 1 and len({kind[:2] for kind in kinds}) == 1:
        return words.noun(words.COLOURS[kinds[0][0]], words.SHAPES[kinds[0][1]], count=len(kinds))
    return words.join([_noun(words, kind, sized) for kind in kinds])


def _noun(words, kind, sized: bool, count: int = 1) -> str:
    return words.noun(words.COLOURS[kind[0]], words.SHAPES[kind[1]], words.SIZES[kind[2]] if sized else "", count)


def _sides(words, truth: Truth) -> list[str]:
    """Names of the walls met, in order."""
    walls = [event["kind"].removeprefix("wall_") for event in truth["events"] if event["kind"].startswith("wall_")]
    return [words.FLOOR if truth["gravity"] and wall == "down" else words.SIDES[wall] for wall in walls]


def _state(words, truth: Truth) -> str:
    if len(truth["times"]) == 1:
        return words.PICTURE
    return words.DRIFTING if truth["velocity"].any() else words.STILL


def _entry(truth: Truth) -> str:
    """Which list of templates speaks of this clip; a single frame shows no motion, a clip cut short no event."""
    family, kinds = truth["family"], [event["kind"] for event in truth["events"]]
    if len(truth["times"]) == 1 or family == "composition":
        return "relation" if truth["relation"] else "composition"
    if family == "collision" and "collision" not in kinds or family == "bounce" and not kinds:
        return f"{family}_early"
    return family


def caption(truth: Truth, language: str, style: str, rng: np.random.Generator) -> str:
    """One caption of a clip. `language`: en or zh; `style`: short or dense; equal `rng` states give equal captions."""
    words, kinds = LANGUAGES[language], _kinds(truth)
    sides, direction = _sides(words, truth), truth["heading"]
    pace = _level(float(np.hypot(*truth["velocity"][0, 0])), PACE_EDGES)
    if truth["family"] == "pan" and direction:
        direction = palette.OPPOSITE[direction]
    fields = {
        "things": _nouns(words, kinds, False),
        "things_full": _nouns(words, kinds, True),
        "thing": _noun(words, kinds[0], False),
        "kind": _noun(words, kinds[0], False, 0),
        "full": _noun(words, kinds[0], True),
        "pace": words.PACES[pace],
        "pacy": words.PACY[pace],
        "place": _place(words, truth),
        "then": words.contact(sides[:2]),
        "be": "is" if len(kinds) == 1 else "are",
        "state": _state(words, truth),
        "moves": _pick(rng, words.MOVES),
        "moving": _pick(rng, words.MOVING),
    }
    if len(kinds) > 1:
        fields |= {"other": _noun(words, kinds[1], False), "fuller": _noun(words, kinds[1], True)}
    if direction in palette.DIRECTIONS:
        fields |= {
            "direction": words.DIRECTIONS[direction],
            "way": _pick(rng, words.WAYS[direction]),
            "side": sides[0] if sides else words.SIDES[direction],
        }
    if truth["relation"]:
        fields["relation"] = words.RELATIONS[truth["relation"]]
    templates = (words.SHORT if style == "short" else words.DENSE)[_entry(truth)]
    return words.finish(_template(rng, templates).format(**fields), style)
