"""Doors: help is quick and asks nothing, mistakes are one line and exit code 2, defects keep their traceback."""
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
from ml_collections import ConfigDict

def get_config(size="small"):
    if size != "small":
        raise ValueError(f"no size {size!r}; there is small")
    return ConfigDict({"train": {"clips": 1000, "batch": 32}, "model": {"patch": (1, 2, 2)}})
"""
DOOR = '''
"""A door that does one thing."""
import sys
from absl import flags
from launch import door

CONFIG = door.define_config()
RATE = flags.DEFINE_float("flops_per_second", None, "a rate")
FAIL = flags.DEFINE_string("fail", "", "how to fail")

def run():
    assert "jax" not in sys.modules, "the door imported jax before run"
    if FAIL.value == "defect":
        raise ValueError("a defect")
    if FAIL.value == "interrupt":
        raise KeyboardInterrupt
    if FAIL.value:
        from sora_jax import types
        raise getattr(types, FAIL.value)("model.width=3 is odd;\\n  choose an even one")
    print(CONFIG.value.train.clips, RATE.value)
    return 5 if CONFIG.value.train.clips == 5 else None

if __name__ == "__main__":
    door.main(run)
'''


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    folder = tmp_path_factory.mktemp("door")
    (folder / "c.py").write_text(CONFIG)
    (folder / "d.py").write_text(DOOR)

    def call(*arguments):
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run([sys.executable, "d.py", *arguments], cwd=folder, env=env, check=False, text=True,
                              capture_output=True, timeout=120)

    return call


def test_help(door):
    result = door("--help")
    assert result.returncode == 0 and not result.stderr
    assert result.stdout.startswith("A door that does one thing.")
    assert "--flops-per-second" in result.stdout and "--config" in result.stdout


def test_it_runs_with_overrides_and_either_spelling_of_a_flag(door):
    for flag in ("--flops-per-second=1e9", "--flops_per_second=1e9"):
        result = door("--config=c.py:small", "--config.train.clips=7", flag)
        assert (result.returncode, result.stdout) == (0, "7 1000000000.0\n"), result.stderr
    assert door("--config", "c.py", "--config.train.clips=5").returncode == 5, "run's result is the exit code"


@pytest.mark.parametrize("arguments, words", [
    ([], "--config is required"),
    (["--config=c.py:huge"], "no size 'huge'; there is small"),
    (["--config=absent.py"], "no such file: absent.py"),
    (["--config=absent.py", "--config.train.clips=3"], "no such file: absent.py"),
    (["--config=c.py", "--config.train.clip=3"], "did you mean --config.train.clips?"),
    (["--config=c.py", "--config.tran.batch=3"], "did you mean --config.train.batch?"),
    (["--config=c.py", "--config.train.clips=1.5"], "--config.train.clips=1.5"),
    (["--config=c.py", "--flops-per-second=fast"], "flops_per_second=fast"),
    (["--config.train.clips=3"], "no --config is given"),
    (["--config=c.py", "--flop-per-second=1"], "did you mean --flops_per_second?"),
    (["--config=c.py", "more"], "unexpected argument 'more'"),
    (["--config=c.py", "--fail=ConfigError"], "model.width=3 is odd; choose an even one"),
    (["--config=c.py", "--fail=InputError"], "model.width=3 is odd; choose an even one")])
def test_a_mistake_is_one_line(door, arguments, words):
    result = door(*arguments)
    assert result.returncode == 2 and not result.stdout
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    assert words in result.stderr


def test_a_defect_keeps_its_traceback_and_an_interrupt_is_a_line(door):
    result = door("--config=c.py", "--fail=defect")
    assert result.returncode == 1 and "Traceback" in result.stderr
    result = door("--config=c.py", "--fail=interrupt")
    assert (result.returncode, result.stderr) == (130, "error: interrupted\n")


FAULTS = """
import resource, sys
import numpy as np
from launch import door

def run():
    for turn in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.ones(1 << 24, np.float32)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

if sys.argv.pop() == "door":
    door.main(run)
run()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_memory_that_was_freed_is_kept_unless_the_environment_says_how(tmp_path):
    def faults(how, **said):
        env = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_", "JAX_"))}
        return int(subprocess.run([sys.executable, "-c", FAULTS, how], cwd=ROOT, env={**env, **said}, check=True,
                                  text=True, capture_output=True, timeout=120).stdout)

    plain = faults("plain")
    assert plain >= 32, "64 MiB of fresh pages, huge or not"
    assert faults("door", JAX_PLATFORMS="cpu") <= plain // 8
    assert faults("door", JAX_PLATFORMS="cpu", MALLOC_ARENA_MAX="2") >= 32
    (tmp_path / "jax_plugins").mkdir()
    assert faults("door", PYTHONPATH=str(tmp_path)) >= 32, "an accelerator's plugin"
    assert faults("door", PYTHONPATH=str(tmp_path), JAX_PLATFORMS="cpu") <= plain // 8


LARGE = """
import concurrent.futures, resource, sys
import numpy as np
from launch import door

door.keep_memory()
if sys.argv[-1] == "large":
    door.keep_large_memory()
with concurrent.futures.ThreadPoolExecutor(1) as pool:
    for turn in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        pool.submit(lambda: np.ones(1 << 26, np.float32).sum()).result()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_large_memory_of_threads_is_kept_where_a_door_asks_for_it():
    def faults(how):
        env = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
        return int(subprocess.run([sys.executable, "-c", LARGE, how], cwd=ROOT, env={**env, "JAX_PLATFORMS": "cpu"},
                                  check=True, text=True, capture_output=True, timeout=120).stdout)

    usual = faults("usual")
    assert usual >= 128, "256 MiB of fresh pages, huge or not"
    assert faults("large") <= usual // 8


def test_training_asks_for_it_where_an_autoencoder_is_large():
    code = ("from launch import train\nfrom configs import dit, vae, wan\n"
            "small, clip = vae.get_config(), wan.get_config()\nsmall.train.batch = 8\nclip.train.batch = 1\n"
            "print(*map(train.large, (vae.get_config(), clip, small, dit.get_config())))")
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, timeout=120,
                            check=False)
    assert result.stdout.split() == ["True", "True", "False", "False"], result.stderr
