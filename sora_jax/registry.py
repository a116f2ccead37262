"""A name is a module: `load("objectives", "flow")` imports `sora_jax.objectives.flow`."""
import difflib
import importlib
import pkgutil
from types import ModuleType

from sora_jax.types import ConfigError

SHELVES = ("models", "objectives", "samplers", "datasets", "evals")


def names(shelf: str) -> list[str]:
    """The files on a shelf, sorted."""
    if shelf not in SHELVES:
        raise ConfigError(f"no shelf named {shelf!r}; shelves are {', '.join(SHELVES)}")
    package = importlib.import_module(f"sora_jax.{shelf}")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def load(shelf: str, name: str) -> ModuleType:
    """The module `sora_jax.<shelf>.<name>`. Raises ConfigError with the nearest name if there is none."""
    known = names(shelf)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"{shelf} has no {name!r}; {hint}it has {', '.join(known)}")
    return importlib.import_module(f"sora_jax.{shelf}.{name}")
