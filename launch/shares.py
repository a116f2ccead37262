"""Where the time of a compiled update, or of sampling, goes: a profile of its operations, sorted into kinds by what the
program says.

Enters: the text of the compiled program, tokens of a clip, and a function that runs it. Leaves: shares of the seconds
that operations took, and of the wall clock what lay between them, on one thread.
"""
import collections
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

LINE = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.*)$", re.MULTILINE)
CONTAINERS = ("while", "call", "conditional")  # their operations have events of their own
MOVED = ("copy", "transpose", "concatenate", "broadcast", "bitcast", "slice", "pad", "wrapped")
KINDS = ("matmul", "attention", "elementwise", "movement", "random", "optimiser", "dispatch")


def kind(name: str, text: str, tokens: int, update: bool) -> str:
    """The kind of one operation, by its name and its line in the program. Products of tokens by tokens are attention's,
    softmax included; what an update does outside the differentiated function is the optimiser's, clipping and averages
    included."""
    said = re.search(r'op_name="([^"]*)"', text)
    origin = said.group(1) if said else ""
    if "_normal" in origin or "threefry" in origin or "_uniform" in origin:
        return "random"
    if f"{tokens},{tokens}]" in text or re.search(r"b\w*nm|bnme|bame", origin):
        return "attention"
    if name.startswith("dot") or name.startswith("ynn") and ("dot_general" in origin or origin.endswith("transpose")):
        return "matmul"
    if update and origin and "jvp" not in origin:
        return "optimiser"
    first = re.split(r"[_.\-]", name)[0]
    return "movement" if first in MOVED and not re.search(r"(add|multiply|subtract|tanh)_", name) else "elementwise"


def shares(program: str, tokens: int, do: Callable, turn: int, update: bool) -> dict[str, float]:
    """Shares by kind, which sum to one, of a turn of `do`; meant for one thread, where what no operation took is what
    lay between them."""
    import jax

    lines = {name: rest for name, rest in LINE.findall(program)}
    spent = collections.Counter(dict.fromkeys(KINDS, 0.0))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            begun = time.perf_counter()
            do(turn)
            wall = time.perf_counter() - begun
        path, = Path(folder).rglob("*.xplane.pb")
        data = jax.profiler.ProfileData.from_file(str(path))
        for event in (event for plane in data.planes for line in plane.lines for event in line.events):
            if event.name in lines and not event.name.startswith(CONTAINERS) and "hlo_op" in dict(event.stats):
                spent[kind(event.name, lines[event.name], tokens, update)] += event.duration_ns / 1e9
    spent["dispatch"] = max(0.0, wall - sum(spent.values()))
    return {name: seconds / sum(spent.values()) for name, seconds in spent.items()}
