"""Weights as one safetensors file with what they are in its header, and as one hash.

Weights in a file are float32 when read, whatever they are stored as; the header carries the hash of what is read, so a
flipped bit is an error and a latent cache can name the autoencoder it came from.
"""
import hashlib
import json
import os
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, traverse_util
from jaxtyping import PyTree
from safetensors import SafetensorError, safe_open
from safetensors import numpy as safetensors

from sora_jax import disk
from sora_jax import mesh as meshes
from sora_jax.types import InputError

STORAGE = ("float32", "float16")


def named_leaves(tree: PyTree) -> dict[str, Any]:
    """Leaves by path, "blocks/qkv/kernel"; layers of lists are numbered."""
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def shapes_of(tree: PyTree) -> dict[str, list]:
    """[shape, dtype] by path: what a stored tree must match."""
    return {path: [list(leaf.shape), str(leaf.dtype)] for path, leaf in named_leaves(tree).items()}


def nonfinite(state: PyTree) -> str | None:
    """The path of the first leaf with NaN or infinity. Optimizer leaves are not read: a bad one shows in params."""
    leaves = named_leaves(state._replace(opt=()) if hasattr(state, "opt") else state)
    found = _all_finite({name: leaf for name, leaf in leaves.items() if jnp.issubdtype(leaf.dtype, jnp.inexact)})
    return next((name for name, good in jax.device_get(found).items() if not good), None)


@jax.jit
def _all_finite(leaves):
    return {name: jnp.isfinite(leaf).all() for name, leaf in leaves.items()}


def weights_hash(params: PyTree) -> str:
    """16 hex digits of SHA-256 over (path, dtype, shape, bytes) of every leaf, in order of path. Takes any tree."""
    digest = hashlib.sha256()
    for path, leaf in sorted(named_leaves(meshes.fetch(params)).items()):
        digest.update(f"{path} {leaf.dtype} {leaf.shape}\n".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]


def save_weights(path: str | os.PathLike, params: PyTree, meta: dict[str, Any], storage: str = "float32") -> str:
    """Write `params` and the JSON-able `meta`, config under "config"; returns the hash of what will be read.

    Call it on every host; the first one writes. Raises InputError if a weight does not fit `storage`.
    """
    if storage not in STORAGE:
        raise InputError(f"weights cannot be stored as {storage!r}; choose one of {', '.join(STORAGE)}")
    stored = {}
    for name, leaf in named_leaves(meshes.fetch(params)).items():
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        with np.errstate(over="ignore"):
            stored[name] = np.ascontiguousarray(leaf.astype(storage) if floating else leaf)
        if floating and not np.isfinite(stored[name]).all():
            cause = f"does not fit {storage}" if np.isfinite(leaf).all() else "holds NaN or infinity"
            raise InputError(f"weights not written to {path}: {name} {cause}")
    found = weights_hash(_read_as(stored))
    text = json.dumps(meta)
    header = {"meta": text, "meta_crc": str(zlib.crc32(text.encode())), "hash": found}
    if jax.process_index() == 0:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        disk.write(Path(path), safetensors.save(stored, metadata=header))
    return found


def load_weights(path: str | os.PathLike) -> tuple[dict[Any, Any], dict[str, Any]]:
    """(params as a nested dict of numpy arrays, meta with "hash" added). Raises InputError if the file is damaged."""
    if not Path(path).is_file():
        raise InputError(f"{path}: no such weights file")
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a readable safetensors file ({error}); copy it again") from error
    if not {"hash", "meta", "meta_crc"} <= set(header):
        raise InputError(f"{path} was not written by this package: its header has no hash and no meta")
    flat = _read_as(stored)
    if weights_hash(flat) != header["hash"] or str(zlib.crc32(header["meta"].encode())) != header["meta_crc"]:
        raise InputError(f"{path} is damaged: its contents and the hash in its header disagree; copy it again")
    tree = traverse_util.unflatten_dict(flat, sep="/")
    return nnx.restore_int_paths(tree), {**json.loads(header["meta"]), "hash": header["hash"]}


def _read_as(stored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: x.astype(np.float32) if x.dtype == np.float16 else x for name, x in stored.items()}
