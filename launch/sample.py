"""Draws video from captions with a finished run.

    python -m launch.sample --run=experiments/004_every_family --prompt="a red circle moves right" --out=out.mp4

`--out` ends in .mp4, .gif or .webp; a contact sheet .png is written beside it. `--image` starts from a picture.
"""
from pathlib import Path

from absl import flags

from launch import door

RUN = flags.DEFINE_string("run", "experiments/004_every_family", "run folder, committed weights, or a weights file")
PROMPT = flags.DEFINE_multi_string("prompt", None, "what to draw; repeat it for several clips", required=True)
OUT = flags.DEFINE_string("out", "out.mp4", "file to write: .mp4, .gif or .webp")
IMAGE = flags.DEFINE_string("image", "", "a picture that becomes the first frame")
SEED = flags.DEFINE_integer("seed", 0, "the same seed draws the same clip, bit for bit")
FRAMES = flags.DEFINE_integer("frames", 0, "frames, 1 + 4k; 0: as trained", lower_bound=0)
HEIGHT = flags.DEFINE_integer("height", 0, "pixels; 0: as trained", lower_bound=0)
WIDTH = flags.DEFINE_integer("width", 0, "pixels; 0: as trained", lower_bound=0)
STEPS = flags.DEFINE_integer("steps", 0, "sampler steps; 0: as configured", lower_bound=0)
GUIDANCE = flags.DEFINE_float("guidance", -1.0, "classifier-free guidance; negative: as configured")
SAMPLER = flags.DEFINE_string("sampler", "", "euler, heun, ddim or ddpm; empty: as configured")
VAE = flags.DEFINE_string("vae", "", "autoencoder weights; empty: those the run was trained on")


def run() -> None:
    """The door."""
    import numpy as np

    from sora_jax import video
    from sora_jax.pipeline import Pipeline
    from sora_jax.types import InputError

    out = Path(OUT.value)
    if out.suffix not in video.WRITERS:
        raise InputError(f"--out={out}: the ending must be one of {', '.join(video.WRITERS)}")
    pipeline = Pipeline.open(RUN.value, VAE.value)
    data = pipeline.config.data
    size = (FRAMES.value or data.frames, HEIGHT.value or data.height, WIDTH.value or data.width)
    first = {}
    if IMAGE.value:
        picture = video.read_image(IMAGE.value, *size[1:])
        clips = np.broadcast_to(picture, (len(PROMPT.value), *size, 3))
        frames = pipeline.latent_shape(*size)[0]
        first = {"known": np.arange(frames) == 0, "clips": clips}
    clips = pipeline.sample(
        PROMPT.value, seed=SEED.value, size=size, steps=STEPS.value or None,
        guidance=None if GUIDANCE.value < 0 else GUIDANCE.value, sampler=SAMPLER.value or None, **first,
    )
    for i, clip in enumerate(clips):
        path = out if len(clips) == 1 else out.with_stem(f"{out.stem}-{i}")
        video.WRITERS[out.suffix](path, clip, data.fps)
        shape = f"{clip.shape[0]} frames of {clip.shape[1]}×{clip.shape[2]}"
        print(f"{path}: {PROMPT.value[i]!r}, {shape}, seed {SEED.value}")
    video.write_image(out.with_suffix(".png"), video.contact_sheet(list(clips), labels=PROMPT.value))


if __name__ == "__main__":
    door.main(run)
