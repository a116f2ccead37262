"""Shows what an autoencoder makes of video files: any length, any size, with any autoencoder.

    python -m launch.reconstruct --vae=experiments/000_autoencoder --videos=runs/films --out=runs/reconstruct
    python -m launch.reconstruct --vae=runs/wan --videos=film.mp4 --frames=49 --height=480 --width=832

Per film: an MP4 of original and reconstruction side by side, a PNG with their differences; and reconstruct.json with
PSNR and SSIM of each (of the pixels before they were written). A film goes through in chunks, so that memory does not
grow with its length; frames over --tile pixels go in tiles, and how much tiles disagree is printed as their seam. Files
that cannot be used are set aside with a reason.
"""
import json
import sys
from pathlib import Path

from absl import flags

from launch import door

VAE = flags.DEFINE_string("vae", None, "autoencoder: run folder or weights file", required=True)
VIDEOS = flags.DEFINE_string("videos", None, "a video file, or a folder of them", required=True)
OUT = flags.DEFINE_string("out", "runs/reconstruct", "folder to write to")
HEIGHT = flags.DEFINE_integer("height", 0, "crop and resize to this; 0: the film's own size", lower_bound=0)
WIDTH = flags.DEFINE_integer("width", 0, "with --height", lower_bound=0)
FRAMES = flags.DEFINE_integer("frames", 0, "frames of each film; 0: all", lower_bound=0)
CHUNK = flags.DEFINE_integer("chunk", 2, "latent frames at a time on the device", lower_bound=1)
TILE = flags.DEFINE_integer("tile", 512, "side of a tile in pixels", lower_bound=1)
OVERLAP = flags.DEFINE_integer("overlap", 64, "pixels that neighbouring tiles share", lower_bound=0)


def line(name: str, film: dict) -> str:
    """A film's figures for people."""
    high, wide = film["size"]
    text = f"{name}: {film['frames']} frames of {wide}x{high}, PSNR {film['psnr']:.2f} dB, SSIM {film['ssim']:.4f}"
    if seam := film.get("seam"):
        text += (f", {seam['tiles']} tiles that disagree by up to {seam['grey_levels']:.1f} grey levels "
                 f"({seam['latents']:.2g} in the latents)")
    return text


def run() -> None:
    """The door."""
    from sora_jax import disk, pipeline, reconstructing
    from sora_jax.types import InputError

    if bool(HEIGHT.value) != bool(WIDTH.value):
        raise InputError(f"--height={HEIGHT.value} --width={WIDTH.value}: give both, or neither for each film's own "
                         "size")
    path, out = Path(VIDEOS.value), Path(OUT.value)
    reconstructing.films(path)
    vae, meta = pipeline.autoencoder(VAE.value)
    size = (HEIGHT.value, WIDTH.value) if HEIGHT.value else None
    options = reconstructing.Options(size, FRAMES.value, CHUNK.value, TILE.value, OVERLAP.value)
    found = reconstructing.reconstruct(vae, path, out, options)
    found |= {"autoencoder": meta.get("hash", "an unfinished run"),
              "recipe": f"{options._asdict()}, every frame as filmed, posterior mean, MSE over all pixels of a film"}
    disk.write(out / "reconstruct.json", json.dumps(found, indent=1).encode())
    print("\n".join(line(name, film) for name, film in found["films"].items()))
    for name, cause in found["aside"].items():
        print(f"set aside as {cause['reason']}: {name}: {cause['detail']}", file=sys.stderr)
    print(f"films, sheets and reconstruct.json are in {out}")


if __name__ == "__main__":
    door.main(run)
