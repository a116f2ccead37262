"""Every test runs on eight fake CPU devices, with shapes checked at run time and compilations cached on disk.

Programs are compiled in a third of the time and optimised little, since tests compile for minutes and compute for
seconds; with an XLA_FLAGS of your own, even an empty one, they are compiled as you say.
"""
import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false")

import jax
import pytest
from jaxtyping import install_import_hook

CACHE = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(pathlib.Path.home() / ".cache" / "sora_jax" / "xla")

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_compilation_cache_dir", CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
install_import_hook("sora_jax", "beartype.beartype")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than a few seconds; deselect with -m 'not slow'")
    config.addinivalue_line("filterwarnings", "ignore::beartype.roar.BeartypeDecorHintPep585DeprecationWarning")


@pytest.fixture(autouse=True, scope="module")
def forgotten():
    """Programs are dropped after each file. Each holds tens of memory maps, of which a process may have 65,530
    (vm.max_map_count); past that XLA aborts."""
    yield
    jax.clear_caches()


@pytest.fixture
def key():
    """A fixed random key."""
    return jax.random.key(0)
