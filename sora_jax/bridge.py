"""Weights of other libraries ⇄ this package's: a folder of config.json and safetensors, strict in both directions.

The layouts are the files of `sora_jax.layouts`. Every weight of the folder is named by one row of a layout's table, and
no row is without its weight. A model that is no run of its own is opened by `load`, from a foreign folder or ours.
"""
import dataclasses
import difflib
import importlib
import json
import pkgutil
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, traverse_util
from jaxtyping import PyTree
from ml_collections import ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors import numpy as safetensors

from sora_jax import build, disk, registry, rows, weights
from sora_jax.types import ConfigError, InputError

CONFIG, OWN = "config.json", "weights.safetensors"


class Place(NamedTuple):
    """Where a foreign weight lies: the file, and its name in it."""

    file: Path
    name: str


class Opened(NamedTuple):
    """A foreign folder whose every key, name and shape has been checked. `config` is the run's, if one was given."""

    layout: ModuleType
    folder: Path
    fields: dict[str, Any]
    rows: list[rows.Row]
    shapes: dict[str, tuple[int, ...]]
    places: dict[str, Place]
    constants: dict[str, np.ndarray]
    config: ConfigDict | None


def layouts() -> dict[str, ModuleType]:
    """Every layout by its name."""
    package = importlib.import_module("sora_jax.layouts")
    files = [file.name for file in pkgutil.iter_modules(package.__path__)]
    return {module.NAME: module for module in (importlib.import_module(f"sora_jax.layouts.{file}") for file in files)}


def layout(name: str) -> ModuleType:
    """The layout of that name. Raises InputError with the nearest one."""
    known = layouts()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"no layout {name!r}; {hint}there are {', '.join(sorted(known))}")
    return known[name]


def recognised(folder: str | Path) -> ModuleType:
    """The layout of a folder, from its config.json. Raises InputError if none knows it."""
    given, known = _given(Path(folder)), layouts()
    found = [module for module in known.values() if module.knows(given)]
    if len(found) != 1:
        said = {name: given[name] for name in ("_class_name", "model_type", "architectures") if name in given}
        raise InputError(f"{Path(folder) / CONFIG} ({said or 'no class'}) is of no layout here; there are "
                         f"{', '.join(sorted(known))}")
    return found[0]


def open_folder(folder: str | Path, name: str, config: ConfigDict | None = None) -> Opened:
    """A folder of the layout `name`; its model takes the place of the one in a run's `config`. No weight is read.

    Raises InputError, one line that names the field or the first key that is missing, unknown or of another shape.
    """
    folder, kind = Path(folder), layout(name)
    fields, constants = read_config(folder, kind)
    places, have = _found(folder, kind)
    fields = kind.completed(fields, places) if hasattr(kind, "completed") else fields
    try:
        config, shapes = _described(kind, fields, config)
    except ConfigError as error:
        raise InputError(f"{folder / CONFIG}: {error}") from error
    table = kind.table(fields)
    rows.audit(table, set(shapes) - set(constants))
    want = {key: rows.shape(shapes[row.own], row) for row in table for key in rows.names(row)}
    for key in sorted(set(want) | set(have)):
        where = places[key].file if key in places else folder / kind.WEIGHTS
        if key not in have or key not in want:
            raise InputError(f"{where}: {key} is {'missing' if key in want else f'no weight of this {kind.TITLE}'}")
        if have[key] != want[key]:
            raise InputError(f"{where}: {key} is {have[key]}, its {CONFIG} asks for {want[key]}")
    return Opened(kind, folder, fields, table, want, places, constants, config)


def params(opened: Opened) -> PyTree:
    """The weights of an opened folder, float32, as the pure dict of its model here."""
    files: dict[Path, Any] = {}

    def take(key):
        place = opened.places[key]
        if place.file not in files:
            files[place.file] = safe_open(place.file, framework="flax")
        return np.asarray(files[place.file].get_tensor(place.name), np.float32)

    flat = _reading(opened.folder / opened.layout.WEIGHTS, lambda: rows.gather(opened.rows, take))
    return nnx.restore_int_paths(traverse_util.unflatten_dict(flat | opened.constants, sep="/"))


def load(folder: str | Path, name: str = "") -> nnx.Module:
    """The model of a folder with its weights: of the layout `name` (recognised if none is said), or written by `save`.

    Raises InputError, one line that names what does not fit."""
    if not name and (Path(folder) / OWN).is_file():
        return model(*saved(folder))
    opened = open_folder(folder, name or recognised(folder).NAME)
    return model(opened.fields, params(opened))


def model(fields: dict[str, Any], params: PyTree) -> nnx.Module:
    """The model that fields describe, with these weights."""
    graph, _ = nnx.split(_abstract(fields))
    return nnx.merge(graph, nnx.State(nnx.restore_int_paths(jax.tree.map(jnp.asarray, params))))


def save(folder: str | Path, opened: Opened) -> str:
    """An opened model as a file of ours in `folder`, for `load`; returns its hash."""
    meta = {"fields": opened.fields, "imported": {"layout": opened.layout.NAME, "path": str(opened.folder)}}
    return weights.save_weights(Path(folder) / OWN, params(opened), meta)


def saved(folder: str | Path) -> tuple[dict[str, Any], PyTree]:
    """(fields, weights) that `save` wrote. Raises InputError if the file is of something else."""
    found, meta = weights.load_weights(Path(folder) / OWN)
    if "fields" not in meta:
        raise InputError(f"{Path(folder) / OWN} holds a run; open it with sora_jax.checkpoint.load_for_inspection")
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in meta["fields"].items()}
    return fields, found


def write_folder(folder: str | Path, name: str, fields: dict[str, Any], params: PyTree) -> None:
    """The weights of the model that `fields` describe as a folder of the layout `name`. Raises InputError if the layout
    cannot say them."""
    kind, folder = layout(name), Path(folder)
    if fields["name"] != kind.MODEL:
        raise InputError(f"a {fields['name']} has no layout {kind.NAME}; only {kind.MODEL} has")
    flat = {path: np.asarray(leaf) for path, leaf in weights.named_leaves(params).items()}
    given, table = kind.write(fields, flat), kind.table(fields)
    rows.audit(table, set(flat) - set(kind.constants(given)))
    stored = rows.scatter(table, flat)
    folder.mkdir(parents=True, exist_ok=True)
    disk.write(folder / kind.WEIGHTS, safetensors.save(stored, metadata={"format": "pt"}))
    disk.write(folder / CONFIG, (json.dumps(given, indent=2, sort_keys=True) + "\n").encode())


def described(opened: Opened) -> str:
    """The table for people: foreign name, path here, turn, foreign shape; `×n` after a name that is one a layer."""
    lines = []
    for row in opened.rows:
        k, count = row.part
        turn = row.turn + "".join(f" {axis}={size}" for axis, size in row.sizes)
        lines.append((row.foreign + (f" ×{row.layers}" if row.layers else ""),
                      row.own + (f"[{k + 1}/{count}]" if count > 1 else ""), turn,
                      "×".join(map(str, opened.shapes[rows.names(row)[0]]))))
    wide = [max(len(line[k]) for line in lines) for k in range(3)]
    return "\n".join("  ".join(f"{cell:{w}}" for cell, w in zip(line, (*wide, 0), strict=True)) for line in lines)


def read_config(folder: Path, kind: ModuleType) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(fields of the model here, leaves that stand in config.json). Raises InputError naming what the layout lacks."""
    path, given = folder / CONFIG, _given(folder, kind)
    try:
        for name, allowed in kind.FIXED.items():
            if given.get(name, allowed[0]) not in allowed:
                raise InputError(f"{name}={given[name]!r} is of another layout; {kind.NAME} has {allowed[0]!r}")
        return kind.read(given), kind.constants(given)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except KeyError as error:
        raise InputError(f"{path}: {error.args[0]} is missing") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} is no config of {kind.TITLE} ({error})") from error


def _given(folder: Path, kind: ModuleType | None = None) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        beside = kind.WEIGHTS if kind else "the weights"
        raise InputError(f"{path} is not a readable config; give the folder that holds it and {beside}") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} is no config of {kind.TITLE if kind else 'a model'} ({error})") from error


def _described(kind: ModuleType, fields: dict[str, Any],
               config: ConfigDict | None) -> tuple[ConfigDict | None, dict[str, tuple[int, ...]]]:
    """The run's config with the model in its place, and the shapes of the model's leaves."""
    if config is None:
        tree = nnx.to_pure_dict(nnx.state(_abstract(fields)))
    else:
        config = config.copy_and_resolve_references()
        for name, part in kind.to_run(fields).items():
            config[name].update(part)
        tree = build.graph(config)[1]
    return config, {name: leaf.shape for name, leaf in weights.named_leaves(tree).items()}


def _abstract(fields: dict[str, Any]) -> nnx.Module:
    module = registry.load("models", fields["name"])
    known = {field.name for field in dataclasses.fields(module.Config)}
    config = module.Config(**{name: value for name, value in fields.items() if name in known})
    with nnx.use_eager_sharding(False):
        return nnx.eval_shape(lambda: module.build(config, rngs=nnx.Rngs(0)))


def _found(folder: Path, kind: ModuleType) -> tuple[dict[str, Place], dict[str, tuple[int, ...]]]:
    """Places and shapes of the weights in the file of a folder, or in the files that its index names."""
    places, shapes = {}, {}
    for file in _files(folder, kind.WEIGHTS):
        with _reading(file, lambda file=file: safe_open(file, framework="flax")) as opened:
            for key, name in kind.accepted(opened.keys()).items():
                if name in places:
                    raise InputError(f"{file}: {key} is there twice, the first time in {places[name].file.name}")
                places[name] = Place(file, key)
                shapes[name] = tuple(opened.get_slice(key).get_shape())
    return places, shapes


def _files(folder: Path, name: str) -> Iterable[Path]:
    """One file, or those of `<name>.index.json`. Raises InputError if the index cannot be read."""
    index = folder / f"{name}.index.json"
    if (folder / name).is_file() or not index.is_file():
        return [folder / name]
    try:
        found = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        return [folder / Path(file).name for file in found]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index} is no readable index of weights ({error!r}); copy it again") from error


def _reading(path: Path, what: Callable[[], Any]) -> Any:
    try:
        return what()
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a readable safetensors file ({error}); copy it again") from error
