"""What a caption promises, in checkable terms: objects, direction, relation.

`specification` reads a truth, or any English or Chinese sentence that names coloured shapes (two red balls).
"""

import re
from typing import NamedTuple

from sora_jax.types import Truth
from sora_jax.worlds import chinese, english, palette

Kind = tuple[str, str]

_COUNTS = {"two": 2, "three": 3, "four": 4, "2": 2, "3": 3, "4": 4, "两": 2, "二": 2, "三": 3, "四": 4}
_SHAPES = {"ball": "circle", "disc": "circle", "box": "square", "圆": "circle", "球": "circle", "方块": "square"}
_SHAPES |= {word: name for words in (english, chinese) for name, word in words.SHAPES.items()}
_COLOURS = {word: name for words in (english, chinese) for name, word in words.COLOURS.items()}
_COLOURS |= {word[0]: name for name, word in chinese.COLOURS.items()}
_WAYS = {"ri": "right", "le": "left", "up": "up", "to": "up", "do": "down", "bo": "down"}
_WAYS |= {word: name for name, word in chinese.DIRECTIONS.items()}


def _one_of(words, latin: bool) -> str:
    """A pattern of alternatives in one script, longest first."""
    return "|".join(sorted((word for word in words if word.isascii() == latin), key=len, reverse=True))


_ENGLISH = re.compile(
    r"(?:\b(two|three|four|[234])\s+)?(?:\b(?:tiny|small|medium|large|huge)\s+)?"
    rf"\b({_one_of(_COLOURS, True)})\s+({_one_of(_SHAPES, True)})(?:e?s)?\b"
)
_CHINESE = re.compile(
    rf"(?:([两二三四])个)?(?:[极较中巨][小大等]的)?({_one_of(_COLOURS, False)})的?({_one_of(_SHAPES, False)})"
)
_TURNS = re.compile(
    r"\b(?:bounc|hit|rebound|collid|bump|meet|fall|throw|drop|fly|flies|approach|near|head)|towards the \w+ wall"
    r"|[撞弹碰落抛近]|朝.墙"
)
_MOTION = re.compile(r"\b(?:mov|go|travel|slid|drift|glid|camera|pan|pass).*|[向往朝].*")
_WAY = re.compile(r"\b(right|left|up|down|top|bottom)(?:wards?)?\b(?! of)|[向往朝](右|左|上|下)")
_REST = re.compile(r"\bat rest\b|\bstill\b|drifting slowly[.]?$|静止|漂动")


class Specification(NamedTuple):
    """`kinds`: (colour, shape) of every object, sorted. `direction` (right, left, up, down, still) and `relation`
    (first, word, second) are None where nothing is asked."""

    kinds: tuple[Kind, ...]
    direction: str | None = None
    relation: tuple[Kind, str, Kind] | None = None

    @property
    def count(self) -> int:
        return len(self.kinds)


def _direction(text: str) -> str | None:
    if _TURNS.search(text):
        return None
    if _REST.search(text):
        return "still"
    clause = _MOTION.search(text)
    found = _WAY.search(clause[0]) if clause else None
    if not found:
        return None
    way = _WAYS[(found[1] or found[2])[:2]]
    return palette.OPPOSITE[way] if "camera" in text or "镜头" in text else way


def _relation(text: str, kinds: list[Kind]) -> tuple[Kind, str, Kind] | None:
    """The relation of one of two objects to the other, if the text states one."""
    if len(kinds) != 2:
        return None
    for name, word in english.RELATIONS.items():
        if re.search(rf"\b{word}\b", text):
            return kinds[0], name, kinds[1]
    for name, word in chinese.RELATIONS.items():
        if f"的{word}是" in text:
            return kinds[1], name, kinds[0]
        if re.search(rf"[在位于].*{word}", text):
            return kinds[0], name, kinds[1]
    return None


def _read(text: str) -> Specification:
    text, kinds = text.casefold(), []
    for number, colour, shape in _ENGLISH.findall(text) + _CHINESE.findall(text):
        kinds += [(_COLOURS[colour], _SHAPES[shape])] * _COUNTS.get(number, 1)
    return Specification(tuple(sorted(kinds)), _direction(text), _relation(text, kinds))


def specification(source: str | Truth) -> Specification:
    """What must hold in a video of this text (what the words promise) or of this truth (all that is so)."""
    if isinstance(source, str):
        return _read(source)
    count = source["count"]
    pairs = zip(source["colour"][:count].tolist(), source["shape"][:count].tolist(), strict=True)
    kinds = [(palette.COLOUR_NAMES[colour], palette.SHAPES[shape]) for colour, shape in pairs]
    relation = (kinds[0], source["relation"], kinds[1]) if source["relation"] else None
    return Specification(tuple(sorted(kinds)), source["direction"], relation)
