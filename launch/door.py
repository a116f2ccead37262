"""What every door shares: flags, `--help`, and errors for people.

A door defines its flags, a function `run()`, and ends in `door.main(run)`. A config that cannot run, a file that cannot
be used or a flag that does not exist is one line on stderr and exit code 2; anything else is a defect and keeps its
traceback. Nothing here imports jax, so help is quick; doors import the package inside `run`.
"""
import ctypes
import difflib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

HELP = ("--help", "-h", "-help", "--helpshort", "--helpfull")
EXAMPLE = "configs/dit.py:w64d4"
# Of weights of other libraries: the files of sora_jax/layouts.
LAYOUTS = ("diffusers-dit", "diffusers-wan-dit", "diffusers-wan-vae", "original-dit",
           "transformers-clip-text", "transformers-t5", "transformers-vit")
FLAGS = flags.FLAGS
PLUGINS = ("jax_plugins", "libtpu")
KEPT = {-4: 0, -1: -1}  # mallopt(3): no buffer is mapped apart (M_MMAP_MAX), none is trimmed off (M_TRIM_THRESHOLD)
ONE_ARENA = {-8: 1}  # M_ARENA_MAX
VALIDATION = "flag --config="  # how absl begins the message of a failed validator
flags.disclaim_key_flags()


def define_config(default: str | None = None, required: bool = True) -> flags.FlagHolder:
    """The flag `--config=FILE.py:ARGUMENT` and its overrides `--config.section.field=value`; `.value` is the config."""
    holder = config_flags.DEFINE_config_file("config", default, f"config file, e.g. {EXAMPLE}; override a field with "
                                             "--config.train.clips=1000", lock_config=True)
    if required:
        flags.register_validator("config", lambda config: config is not None,
                                 f"--config is required, e.g. --config={EXAMPLE}")
    return holder


def config_path() -> str:
    """The file that --config names, and its argument."""
    return config_flags.get_config_filename(FLAGS["config"])


def main(run: Callable[[], int | None], argv: Sequence[str] | None = None) -> None:
    """Parses the command line, calls `run` and exits with what it returns (None is 0)."""
    argv = list(sys.argv if argv is None else argv)
    if any(argument in HELP for argument in argv[1:]):
        print(help_text(argv[0]))
        sys.exit(0)
    parse(argv)
    keep_compilations()
    keep_memory()
    try:
        code = run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        fail("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left; let the exit be silent
        code = 0
    except OSError as error:
        fail(f"{error.filename or 'disk'}: {error.strerror or error}; free or change the disk, or fix the path")
    except FloatingPointError as error:
        fail(f"{error}; the run diverged: lower --config.optimizer.lr, or start from an older checkpoint")
    except ValueError as error:
        from sora_jax.types import ConfigError, InputError
        if not isinstance(error, ConfigError | InputError):
            raise
        fail(str(error))
    sys.exit(code)


def keep_compilations() -> None:
    """What is compiled is kept on disk, so that the second start of anything is quick; jax reads this when imported."""
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/sora_jax/xla"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


def keep_memory() -> None:
    """What the process has freed it keeps for its next update: glibc hands each buffer over 32 MiB back to the kernel,
    so that every update on a CPU pays for its pages again. Up to 64 MiB, that is; see `keep_large_memory`. Left alone
    where a plugin for an accelerator is installed and not turned off, where the environment says how memory is kept,
    and where the C library is another."""
    _mallopt(KEPT)


def keep_large_memory() -> None:
    """`keep_memory` of buffers over 64 MiB, which glibc can keep only in its first arena: all threads share that one.
    To be called before JAX makes threads. An update of Wan's autoencoder of 9×128×128 (1.1 GB) takes 0.9 of its
    time, and 0.6 where another process takes and frees gigabytes between updates; small updates take longer (w64d4 1.4
    times, w32d2 1.6), so it is for those that know theirs to be large."""
    _mallopt(ONE_ARENA)


def _mallopt(values: dict[int, int]) -> None:
    accelerated = os.environ.get("JAX_PLATFORMS") != "cpu" and any(map(importlib.util.find_spec, PLUGINS))
    said = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if accelerated or said or mallopt is None:
        return
    for parameter, value in values.items():
        mallopt(parameter, value)


def fail(message: str, code: int = 2) -> None:
    """`error: …` on one line of stderr, and exit."""
    print("error: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(code)


def parse(argv: list[str]) -> None:
    """Reads the flags; every mistake of the command line or of a config file becomes one line."""
    path = _config_argument(argv)
    try:
        left = FLAGS([argv[0], *map(_underscored, argv[1:])])
    except flags.UnrecognizedFlagError as error:
        if error.flagname.startswith("config.") and "config" in FLAGS and not path:
            fail(f"--{error.flagname} overrides a config, but no --config is given, e.g. --config={EXAMPLE}")
        fail(f"no flag --{error.flagname}{_nearest(error.flagname, FLAGS)}")
    except (AttributeError, KeyError) as error:
        fail(_unknown_field(path, argv) or _last_line(error))
    except OSError:
        fail(f"--config: no such file: {path.split(':')[0]}")
    except (flags.Error, TypeError, ValueError) as error:
        fail(_last_line(error))
    if left[1:]:
        fail(f"unexpected argument {left[1]!r}; every option is --name=value, see --help")
    if path and not isinstance(FLAGS["config"].value, ConfigDict):
        fail(f"--config: no such file: {path.split(':')[0]}")


def help_text(program: str) -> str:
    """The door's docstring and its own flags."""
    module = sys.modules["__main__"]
    rows = [(module.__doc__ or "").strip(), "", "flags:"]
    for flag in sorted(FLAGS.get_key_flags_for_module(program), key=lambda flag: flag.name):
        default = "" if flag.default in (None, "") else f" (default {flag.default})"
        rows.append(f"  --{flag.name.replace('_', '-'):22} {flag.help}{default}")
    return "\n".join(rows)


def _underscored(argument: str) -> str:
    """--flops-per-second=1 and --flops_per_second=1 are one flag; the values and config paths are left alone."""
    if not argument.startswith("--") or argument.startswith("--config."):
        return argument
    name, equals, value = argument[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"


def _last_line(error: Exception) -> str:
    """The line of an error that says what is wrong: config_flags puts a whole traceback before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else type(error).__name__
    if text.startswith(VALIDATION):
        text = text.split(": ", 1)[1]
    if "must have a value other than None" in text:
        return f"{text.split()[1].partition('=')[0]} is required, see --help"
    for name in ("ValueError: ", "KeyError: ", "TypeError: "):
        text = text.removeprefix(name)
    return text


def _unknown_field(path: str, argv: list[str]) -> str:
    """The first overridden field that the config at `path` does not have, with the nearest one that it has."""
    config = config_flags.config_flags.ConfigFileFlagParser("config").parse(path) if path else None
    if not isinstance(config, ConfigDict):
        return f"--config: no such file: {path.split(':')[0]}" if path else ""
    known = _fields(config)
    for argument in argv[1:]:
        name = argument.removeprefix("--").partition("=")[0]
        if name.startswith("config.") and name.removeprefix("config.") not in known:
            return f"no field {name}{_nearest(name.removeprefix('config.'), known, 'config.')}"
    return ""


def _config_argument(argv: list[str]) -> str:
    for place, argument in enumerate(argv):
        if argument == "--config" and place + 1 < len(argv):
            return argv[place + 1]
        if argument.startswith("--config="):
            return argument.removeprefix("--config=")
    default = FLAGS["config"].default if "config" in FLAGS else None
    return default if isinstance(default, str) else ""


def _fields(config: ConfigDict, prefix: str = "") -> list[str]:
    return [path for name in config for path in (
        _fields(config[name], f"{prefix}{name}.") if isinstance(config[name], ConfigDict) else [prefix + name])]


def _nearest(name: str, known, prefix: str = "") -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean --{prefix}{near[0]}?" if near else "; see --help"
