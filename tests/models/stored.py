"""Answers of other libraries as files: for every case the shapes of its weights, and arrays under their names."""
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Reference(NamedTuple):
    """A file of answers."""

    path: Path

    def shapes(self, name: str) -> dict[str, tuple[int, ...]]:
        """The shapes of a case's weights."""
        with np.load(self.path) as stored:
            return {key: tuple(shape) for key, shape in json.loads(str(stored[f"{name}/shapes"])).items()}

    def answers(self, name: str) -> dict[str, np.ndarray]:
        """The answers to a case."""
        with np.load(self.path) as stored:
            return {key.rpartition("/")[2]: stored[key] for key in stored.files
                    if key.startswith(f"{name}/") and not key.endswith("/shapes")}

    def write(self, cases: Iterator[tuple[str, dict, dict[str, np.ndarray]]]) -> None:
        """(name, shapes, answers) of every case, all at once; says what they are."""
        made = {}
        for name, named, found in cases:
            print(name, {key: (value.shape, f"{np.abs(value).max():.3f}") for key, value in found.items()})
            made[f"{name}/shapes"] = np.array(json.dumps(named))
            made |= {f"{name}/{key}": value for key, value in found.items()}
        np.savez_compressed(self.path, **made)
