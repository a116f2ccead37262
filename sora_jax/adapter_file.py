"""Adapters as files: our own, and that of diffusers (peft's names, as its pipelines load them for Wan).

Enters and leaves: factors `a` and `b` of each layer as a pure dict. There each of to_q, to_k and to_v has a `lora_A` of
its own; here they are one kernel, so writing repeats `a` and cuts `b` by columns, and reading makes one `a` of those
that differ, with a `b` that is zero where they do not meet. Both ways keep a · b exactly.
"""
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx, traverse_util
from safetensors import SafetensorError, safe_open
from safetensors import numpy as safetensors

from sora_jax import adapted, build, disk, lora, rows, weights
from sora_jax.layouts import wan_dit
from sora_jax.types import InputError

PREFIX = "transformer."
KERNEL = "kernel"


def table(config: Any) -> dict[str, list[rows.Row]]:
    """The rows of the kernels that have a name there, by our layer: parts in order."""
    model = config.model
    fields = {"depth": model.depth, "heads": model.heads, "patch": tuple(model.patch)}
    found: dict[str, list[rows.Row]] = {}
    for row in wan_dit.table(fields):
        own, _, leaf = row.own.rpartition("/")
        if leaf == KERNEL and row.turn in ("dense", "pairs"):
            found.setdefault(own, []).append(row)
    return {own: sorted(parts, key=lambda row: row.part) for own, parts in found.items()}


def foreign(row: rows.Row, factor: str) -> list[str]:
    """The names of a factor of a row's layers, layer by layer."""
    return [f"{PREFIX}{name.removesuffix('.weight')}.lora_{factor}.weight" for name in rows.names(row)]


def write(path: str | Path, adapters: Mapping[str, Any], config: Any) -> int:
    """Write the adapters of a run with the names of diffusers, their scale in `lora_B`; returns how many tensors.
    Raises InputError for a layer that has no name there."""
    known, scale, made = table(config), adapted.scale(config), {}
    for layer, adapter in lora.by_layer(adapters).items():
        name = "/".join(map(str, layer))
        if name not in known:
            raise InputError(f"{name} has no name in diffusers' {wan_dit.TITLE}; there are {', '.join(sorted(known))}")
        a, b = (np.asarray(adapter[factor], np.float32) for factor in lora.FACTORS)
        for row in known[name]:
            part = np.split(b * np.float32(scale), row.part[1], axis=-1)[row.part[0]]
            for i, (first, second) in enumerate(zip(foreign(row, "A"), foreign(row, "B"), strict=True)):
                inner = (a[i], part[i]) if row.stacked else (a, part)
                made[first] = np.ascontiguousarray(inner[0].T)
                made[second] = np.ascontiguousarray(rows.turned(inner[1], row, back=True))
    disk.write(Path(path), safetensors.save(made, metadata={"format": "pt"}))
    return len(made)


def read(path: str | Path, config: Any) -> tuple[dict[str, Any], float]:
    """(adapters, their scale) of a file of ours or of diffusers, for a model of this config. Raises InputError naming
    the first tensor that is missing, unknown or of another shape."""
    try:
        with safe_open(path, framework="numpy") as file:
            ours = "meta" in (file.metadata() or {})
            tensors = {} if ours else {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a readable safetensors file ({error})") from error
    if ours:
        adapters, meta = weights.load_weights(path)
        rule = meta["config"].get("lora", {})
        if not rule.get("rank"):
            raise InputError(f"{path} holds weights, not adapters: its config has no lora.rank")
        return adapters, rule["alpha"] / rule["rank"]
    shapes = traverse_util.flatten_dict(build.graph(config)[1], sep="/")
    made = {}
    for name, parts in table(config).items():
        labels = {label for row in parts for factor in "AB" for label in foreign(row, factor)}
        if (kernel := shapes.get(f"{name}/{KERNEL}")) is not None and not labels.isdisjoint(tensors):
            made[tuple(name.split("/"))] = _layer(path, name, parts, kernel.shape, tensors)
    if tensors:
        raise InputError(f"{path}: {min(tensors)} is of no layer of the model; one is {foreign(parts[0], 'A')[0]}")
    if not made:
        raise InputError(f"{path} holds no adapter")
    return nnx.restore_int_paths(traverse_util.unflatten_dict(made)), 1.0


def _layer(path, name: str, parts: list[rows.Row], shape: tuple[int, ...], tensors: dict) -> dict[str, np.ndarray]:
    """The factors of one of our kernels, from those of its parts, taken out of `tensors`."""
    firsts = [[_take(path, label, tensors).T for label in foreign(row, "A")] for row in parts]
    seconds = [[rows.turned(_take(path, label, tensors), row) for label in foreign(row, "B")] for row in parts]
    layers = [_joined([a[i] for a in firsts], [b[i] for b in seconds]) for i in range(len(firsts[0]))]
    ranks = {a.shape[-1] for a, _ in layers}
    if len(ranks) > 1:
        layers = [_padded(*pair, max(ranks)) for pair in layers]
    a, b = (np.stack(factor) if parts[0].stacked else factor[0] for factor in zip(*layers, strict=True))
    if (*a.shape[:-1], b.shape[-1]) != shape:
        raise InputError(f"{path}: the adapters of {name} change a kernel of {(*a.shape[:-1], b.shape[-1])}, the model "
                         f"has {shape}")
    return {"a": a, "b": b}


def _take(path, label: str, tensors: dict) -> np.ndarray:
    if label not in tensors or tensors[label].ndim != 2:
        raise InputError(f"{path}: {label} is {'no matrix' if label in tensors else 'missing'}")
    return tensors.pop(label).astype(np.float32)


def _joined(firsts: list[np.ndarray], seconds: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """One pair of factors from those of parts that lie side by side in the kernel."""
    if all(np.array_equal(first, firsts[0]) for first in firsts):
        return firsts[0], np.concatenate(seconds, axis=-1)
    widths, depth = [second.shape[1] for second in seconds], [first.shape[1] for first in firsts]
    b = np.zeros((sum(depth), sum(widths)), np.float32)
    for k, second in enumerate(seconds):
        b[sum(depth[:k]):sum(depth[:k + 1]), sum(widths[:k]):sum(widths[:k + 1])] = second
    return np.concatenate(firsts, axis=-1), b


def _padded(a: np.ndarray, b: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    more = rank - a.shape[1]
    return np.pad(a, ((0, 0), (0, more))), np.pad(b, ((0, more), (0, 0)))
