"""Published points of other groups, which lie beside the project and not in it."""
import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("SORA_JAX_PUBLISHED", Path(__file__).resolve().parents[3] / "shared" / "data"))


def path(name: str) -> Path:
    """The file, or a skip that says what is missing."""
    if not (FOLDER / name).is_file():
        pytest.skip(f"{FOLDER / name} is not here: published points are not copied into the project; set "
                    "SORA_JAX_PUBLISHED to their folder")
    return FOLDER / name
