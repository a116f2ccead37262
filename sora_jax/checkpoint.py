"""Training states on disk that can be trusted, and runs opened for reading.

A checkpoint is a folder `<step>` that appears by one rename, sealed with a manifest (`disk.seal`: size and crc32 of
every file). Restoring verifies, and falls back to the newest good step. Orbax writes the arrays; integrity and
retention are here because it leaves them out.
"""
import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import SingleDeviceSharding
from jaxtyping import PyTree
from orbax.checkpoint import v1 as orbax

from sora_jax import disk
from sora_jax.types import InputError
from sora_jax.weights import load_weights, nonfinite, save_weights, shapes_of, weights_hash

__all__ = ["Checkpoints", "Point", "Run", "load_for_inspection", "load_weights", "save_weights", "weights_hash"]

log = logging.getLogger(__name__)


class Point(NamedTuple):
    """A restored point of a run: its step, its state, and the `meta` it was saved with."""

    step: int
    state: PyTree
    meta: dict[str, Any]


class Checkpoints(contextlib.AbstractContextManager):
    """The checkpoints in `folder` (`<run>/checkpoints`): the newest `keep`, and every one saved under a name.

    Writers should `hold` the run folder. On several hosts every method is called on all of them, with a shared disk.
    """

    def __init__(self, folder: str | os.PathLike, keep: int = 2):
        self.folder, self.keep, self.primary = Path(folder).absolute(), keep, jax.process_index() == 0
        self._pool, self._pending = ThreadPoolExecutor(1, "checkpoint"), None

    def steps(self) -> list[int]:
        """Committed steps in ascending order, not yet verified."""
        return sorted(int(path.name) for path in self.folder.glob("[0-9]*") if path.name.isdecimal())

    @property
    def latest(self) -> int | None:
        """The newest committed step, not yet verified."""
        return max(self.steps(), default=None)

    def named(self) -> dict[str, int]:
        """Step by name, of the steps that are kept for ever."""
        found = {step: disk.manifest(self.folder / str(step)) for step in self.steps()}
        return {record["name"]: step for step, record in found.items() if record and record["name"]}

    def save(self, step: int, state: PyTree, meta: dict[str, Any] | None = None, *, name: str | None = None,
             force: bool = True) -> bool:
        """Begin to save; returns when the state may be overwritten. `name` keeps the step for ever.

        With a save still under way, waits for it, or returns False without saving if not `force`. A step that is
        already there is only named. Raises FloatingPointError for a state with NaN, InputError if this or the save
        before it could not be written; older steps are then intact.
        """
        if self._pending is not None and not self._pending.done() and not force:
            return False
        self.wait()
        if bad := nonfinite(state):
            raise FloatingPointError(f"step {step}: {bad} holds NaN or infinity; not saved, last good is {self.latest}")
        if step in self.steps():
            record = disk.manifest(self.folder / str(step))
            if self.primary and name and record:
                disk.write_manifest(self.folder / str(step), {**record, "name": name})
            return True
        staging = self.folder / f".saving-{step}"
        record = {"step": step, "name": name, "meta": meta or {}, "leaves": shapes_of(state)}
        try:
            if self.primary:
                self.folder.mkdir(parents=True, exist_ok=True)
                for leftover in (*self.folder.glob(".saving-*"), *self.folder.glob(".trash-*")):
                    shutil.rmtree(leftover)
            if jax.process_count() > 1:
                multihost_utils.sync_global_devices(f"checkpoint {step}")
            with _quiet():
                response = orbax.save_async(staging / "state", state)
        except (OSError, ValueError) as error:
            raise self._failed(step, staging, error) from error
        self._pending = self._pool.submit(self._commit, response, staging, record)
        return True

    def wait(self) -> None:
        """Until the save under way is committed. Raises InputError if it could not be written."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """`wait`, and end the thread."""
        try:
            self.wait()
        finally:
            self._pool.shutdown()

    def __exit__(self, *_):
        self.close()

    def _commit(self, response, staging: Path, record: dict[str, Any]) -> None:
        try:
            with _quiet():
                response.result()
            if not self.primary:
                return
            disk.seal(staging, record)
            os.rename(staging, self.folder / str(record["step"]))
            disk.sync(self.folder)
        except (OSError, ValueError) as error:
            raise self._failed(record["step"], staging, error) from error
        self._prune(record["step"])

    def _failed(self, step: int, staging: Path, error: Exception) -> InputError:
        shutil.rmtree(staging, ignore_errors=True)
        reason = str(error).splitlines()[0][-200:]
        return InputError(f"checkpoint of step {step} could not be written to {self.folder}: {reason}; mend the disk "
                          f"and start again, the last good step is {self.latest}")

    def _prune(self, saved: int) -> None:
        found = {step: disk.manifest(self.folder / str(step)) for step in self.steps() if step != saved}
        spare = [step for step, record in found.items() if record and not record["name"]]
        for step in spare[: max(0, len(spare) - self.keep + 1)]:
            trash = self.folder / f".trash-{step}"
            try:
                os.rename(self.folder / str(step), trash)
                shutil.rmtree(trash)
            except OSError as error:
                log.warning("old checkpoint %s/%s could not be removed (%s)", self.folder, step, error.strerror)

    def restore(self, abstract: PyTree, step: int | str | None = None, *, aside: bool = True,
                part: bool = False) -> Point | None:
        """The newest good point in the layout of `abstract` (shapes with shardings); None if nothing was ever saved.

        Bad steps newer than it are named in a warning and, if `aside`, renamed to `bad-<step>`. With `step` (a number,
        or the name it was saved under) only that one will do. Raises InputError if checkpoints exist but none is good,
        or if a good one has other leaves than `abstract`. `part`: `abstract` is a dict with some fields of the state.
        """
        if isinstance(step, str):
            names = self.named()
            if step not in names:
                raise InputError(f"{self.folder} has no checkpoint named {step!r}; it has {', '.join(names) or 'none'}")
            step = names[step]
        candidates = self.steps()[::-1] if step is None else [step]
        rejected: dict[int, str] = {}
        while (good := self._newest_good(candidates, rejected)) is not None:
            found = disk.manifest(self.folder / str(good))
            self._match(found, abstract, part)
            with _quiet(), _partial(part):
                state = orbax.load(self.folder / str(good) / "state", abstract)
            if bad := nonfinite(state):
                rejected[good] = f"{bad} holds NaN or infinity"
                continue
            self._report(rejected, good, aside)
            return Point(good, state, found["meta"])
        if not candidates and not list(self.folder.glob("bad-*")):
            return None
        tried = "; ".join(f"step {at}: {why}" for at, why in rejected.items()) or "only bad ones set aside"
        raise InputError(f"{self.folder} holds no checkpoint to resume from ({tried}); put back a copy, or start in a "
                         "new folder: starting over here would overwrite a run")

    def _newest_good(self, candidates: list[int], rejected: dict[int, str]) -> int | None:
        """The first host verifies and decides, so that all hosts restore one step."""
        choice = -1
        for step in candidates if self.primary else ():
            if step not in rejected:
                problem = disk.damage(self.folder / str(step))
                if problem is None:
                    choice = step
                    break
                rejected[step] = problem
        if jax.process_count() > 1:
            choice = int(multihost_utils.broadcast_one_to_all(np.int32(choice)))
        return None if choice < 0 else choice

    def _match(self, found: dict[str, Any], abstract: PyTree, part: bool) -> None:
        want = shapes_of(abstract)
        for path in sorted(set(want) if part else set(want) | set(found["leaves"])):
            asked, stored = want.get(path), found["leaves"].get(path)
            if asked != stored:
                raise InputError(f"{self.folder}/{found['step']} does not fit the config: {path} is {_words(stored)} "
                                 f"there, the config asks for {_words(asked)}; resume with the config of the run")

    def _report(self, rejected: dict[int, str], good: int, aside: bool) -> None:
        for step, why in rejected.items() if self.primary else ():
            log.warning("checkpoint %s/%s is bad (%s); going back to step %s", self.folder, step, why, good)
            if aside:
                free = next(n for n in range(1000) if not (self.folder / f"bad-{step}-{n}").exists())
                os.rename(self.folder / str(step), self.folder / f"bad-{step}-{free}")


def _words(leaf: list | None) -> str:
    return "absent" if leaf is None else f"{leaf[1]} {tuple(leaf[0])}"


def _partial(part: bool) -> contextlib.AbstractContextManager:
    loading = orbax.options.PyTreeOptions.Loading(partial_load=part)
    return orbax.Context(pytree_options=orbax.options.PyTreeOptions(loading=loading))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Orbax logs a page of traceback before it raises; the error says it all."""
    def foreign(record: logging.LogRecord) -> bool:
        return "orbax" not in record.pathname

    logger = logging.getLogger("absl")
    logger.addFilter(foreign)
    try:
        yield
    finally:
        logger.removeFilter(foreign)


class Run(NamedTuple):
    """A run opened for reading: its config, the model with its weights, those weights, the record if there is one."""

    config: Any
    model: nnx.Module
    params: dict[Any, Any]
    record: dict[str, Any] | None
    meta: dict[str, Any]


def load_for_inspection(path: str | os.PathLike, *, step: int | str | None = None, weights: str = "ema") -> Run:
    """Open a run on one device. Nothing is written.

    `path`: a run folder (`config.json` with `weights.safetensors` or `checkpoints/`), a folder with one committed
    weights file (in it or in `weights/`), or such a file. `step` (number or name) and `weights` ("ema" or "params")
    choose within `checkpoints/`; by default a run's weights file is taken if it has one. Raises InputError.
    """
    from sora_jax import adapted, build

    path = Path(path)
    if path.is_dir() and (path / "config.json").is_file():
        config = build.from_json((path / "config.json").read_text())
        if step is None and weights == "ema" and (path / "weights.safetensors").is_file():
            params, meta = load_weights(path / "weights.safetensors")
        else:
            params, meta = _from_checkpoints(path, adapted.trained(config), step, weights)
            params = adapted.whole(config, params, lambda: load_for_inspection(config.train.start).params)
    else:
        path = _one_file(path)
        params, meta = load_weights(path)
        if "config" not in meta:
            raise InputError(f"{path} has no config in its header, so its model cannot be built")
        config = build.from_json(json.dumps(meta["config"]))
    return Run(config, build.model(config, params, f"{path}: "), params, _record(path, meta), meta)


def _from_checkpoints(run: Path, shapes: PyTree, step: int | str | None, weights: str) -> tuple[dict, dict[str, Any]]:
    if weights not in ("ema", "params"):
        raise InputError(f"weights={weights!r} is not a part of a run; choose ema or params")
    here = SingleDeviceSharding(jax.local_devices()[0])
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), shapes)
    with Checkpoints(run / "checkpoints") as checkpoints:
        point = checkpoints.restore({weights: abstract}, step, aside=False, part=True)
    if point is None:
        raise InputError(f"{run} has a config.json but neither weights.safetensors nor a checkpoint in checkpoints/: "
                         "the run has not saved yet")
    return point.state[weights], {**point.meta, "step": point.step}


def _one_file(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    files = sorted([*path.glob("*.safetensors"), *path.glob("weights/*.safetensors")])
    if len(files) > 1:
        raise InputError(f"{path} holds {len(files)} weights files; name one, for example {files[0]}")
    if not files:
        inside = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"
        raise InputError(f"{path} is not a run: looked for config.json, *.safetensors and weights/*.safetensors, "
                         f"found {inside}")
    return files[0]


def _record(path: Path, meta: dict[str, Any]) -> dict[str, Any] | None:
    if (path / "record.json").is_file():
        return json.loads((path / "record.json").read_text())
    tables = [table for table in (path.parent / "runs.jsonl", path.parent.parent / "runs.jsonl") if table.is_file()]
    records = [json.loads(line) for table in tables for line in table.read_text().splitlines()]
    found = (record for record in records if record.get("id") in {meta.get("id"), path.stem} - {None})
    return next(found, meta.get("record"))
