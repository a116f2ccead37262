"""Rows of a table between foreign weights and ours: names, turns, stacks of layers, leaves that hold several weights.

Enters: rows, and a weight by its name on one side. Leaves: the weights of the other side. A foreign name with `{i}` is
one weight a layer, all of them one leaf here with a leading axis; a row may make one of several equal parts of a leaf.
"""
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
from einops import rearrange
from jaxtyping import Array, Shaped

from sora_jax.types import InputError

# How a foreign weight is turned, and back. Sizes that a pattern cannot know are the row's.
TURNS = {
    "conv3": ("d c kf kh kw -> kf kh kw c d", "kf kh kw c d -> d c kf kh kw"),
    "conv2": ("d c kh kw -> kh kw c d", "kh kw c d -> d c kh kw"),
    "point": ("d c 1 1 -> c d", "c d -> d c 1 1"),
    "gain3": ("d 1 1 1 -> d", "d -> d 1 1 1"),
    "gain2": ("d 1 1 -> d", "d -> d 1 1"),
    "dense": ("d c -> c d", "c d -> d c"),
    "same": ("... -> ...", "... -> ..."),
    "gain": ("d -> d", "d -> d"),
    "token": ("1 1 d -> d", "d -> 1 1 d"),
    "row": ("1 ... -> ...", "... -> 1 ..."),
    # convolutions whose stride is their size are dense layers on patches; sizes kf, kh, kw
    "patch3": ("d c kf kh kw -> (kf kh kw c) d", "(kf kh kw c) d -> d c kf kh kw"),
    "patch2": ("d c kh kw -> (kh kw c) d", "(kh kw c) d -> d c kh kw"),
    # rotary pairs that are neighbours there and half a head apart here; sizes a = heads, r = 2
    "pairs": ("(a e r) c -> c (a r e)", "c (a r e) -> (a e r) c"),
    "pairs1": ("(a e r) -> (a r e)", "(a r e) -> (a e r)"),
}
# What the weight of a layer with a bias is called here; "weight" where the turn is none of these.
NAMES = {"gain": "scale", **dict.fromkeys(("dense", "point", "patch2", "patch3", "pairs"), "kernel")}


class Row(NamedTuple):
    """A foreign name, the path here, and the turn between them.

    `layers`: how many weights `{i}` stands for, and the leading axis here (0: one weight, none). `part`: (k, n) if the
    weight is the k-th of n equal parts of the last axis here. `sizes`: of axes that the turn cannot know. `alike`: the
    layers' weights are copies of one another, and one leaf here."""

    foreign: str
    own: str
    turn: str
    layers: int = 0
    part: tuple[int, int] = (0, 1)
    sizes: tuple[tuple[str, int], ...] = ()
    alike: bool = False

    @property
    def stacked(self) -> bool:
        """Whether the leaf here has an axis of layers."""
        return bool(self.layers) and not self.alike


def layer(foreign: str, own: str, turn: str, layers: int = 0, part: tuple[int, int] = (0, 1),
          sizes: tuple[tuple[str, int], ...] = (), alike: bool = False) -> list[Row]:
    """The rows of a layer with a bias."""
    weight, bias = NAMES.get(turn, "weight"), "pairs1" if turn == "pairs" else "same"
    return [Row(f"{foreign}.weight", f"{own}/{weight}", turn, layers, part, sizes, alike),
            Row(f"{foreign}.bias", f"{own}/bias", bias, layers, part, sizes if bias == "pairs1" else (), alike)]


def heads(count: int) -> tuple[tuple[str, int], ...]:
    """The sizes of the turns "pairs" and "pairs1"."""
    return ("a", count), ("r", 2)


def names(row: Row) -> list[str]:
    """The foreign names of a row, layer by layer."""
    return [row.foreign.replace("{i}", str(i)) for i in range(row.layers)] if row.layers else [row.foreign]


def turned(x: Shaped[Array | np.ndarray, "..."], row: Row, back: bool = False) -> Shaped[np.ndarray, "..."]:
    """One foreign weight as it is laid out here, or `back`. Raises einops.EinopsError if it has another rank."""
    return rearrange(np.asarray(x), TURNS[row.turn][back], **dict(row.sizes))


def shape(own: tuple[int, ...], row: Row) -> tuple[int, ...]:
    """The shape of each foreign weight of a row whose leaf here has the shape `own`. Raises ValueError if the leaf
    does not have the row's layers or does not divide into its parts."""
    inner = own[1:] if row.stacked else own
    if row.stacked and own[0] != row.layers or inner and inner[-1] % row.part[1]:
        raise ValueError(f"{row.own} is {own} here: no {row.layers} layers, or no {row.part[1]} equal parts")
    inner = (*inner[:-1], inner[-1] // row.part[1]) if inner else inner
    return turned(np.broadcast_to(np.float32(0), inner), row, back=True).shape


def audit(rows: Iterable[Row], own: Iterable[str]) -> None:
    """ValueError, a mistake in a table, unless each foreign name stands in one row and each leaf of `own` is made once
    and whole."""
    foreign, parts = set(), {}
    for row in rows:
        parts.setdefault(row.own, []).append(row.part)
        for name in names(row):
            if name in foreign:
                raise ValueError(f"{name} stands in two rows")
            foreign.add(name)
    for name in sorted(set(parts) | set(own)):
        found = sorted(parts.get(name, []))
        if name not in set(own) or not found or found != [(k, found[0][1]) for k in range(found[0][1])]:
            raise ValueError(f"{name} is made of the parts {found}" if name in set(own) else f"{name} is no leaf here")


def gather(rows: Iterable[Row], take: Callable[[str], np.ndarray]) -> dict[str, np.ndarray]:
    """The leaves here, leaf by leaf; `take` gives a foreign weight by name. Raises InputError naming the first weight
    that should be a copy and is none."""
    leaves: dict[str, list[Row]] = {}
    for row in rows:
        leaves.setdefault(row.own, []).append(row)
    return {own: _joined(sorted(found, key=lambda row: row.part), take) for own, found in leaves.items()}


def _joined(rows: list[Row], take: Callable[[str], np.ndarray]) -> np.ndarray:
    """One leaf, filled weight by weight: the largest ones are gigabytes, and are held once."""
    leaf = None
    for row in rows:
        k, count = row.part
        for i, name in enumerate(names(row)):
            x = turned(take(name), row)
            if leaf is None:
                inner = (*x.shape[:-1], count * x.shape[-1]) if count > 1 else x.shape
                leaf = np.empty((row.layers, *inner) if row.stacked else inner, x.dtype)
            elif row.alike and i:
                if not np.array_equal(leaf, x):
                    raise InputError(f"{name} is not {names(row)[0]}; here all layers share one")
                continue
            inside = leaf[i] if row.stacked else leaf
            inside[... if count == 1 else (..., slice(k * x.shape[-1], (k + 1) * x.shape[-1]))] = x
    return leaf


def scatter(rows: Iterable[Row], flat: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The foreign weights by name, from the leaves here by path."""
    made = {}
    for row in rows:
        k, count = row.part
        side = np.asarray(flat[row.own])
        side = np.split(side, count, axis=-1)[k] if count > 1 else side
        for i, name in enumerate(names(row)):
            made[name] = np.ascontiguousarray(turned(side[i] if row.stacked else side, row, back=True))
    return made
