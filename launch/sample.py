"""Draws video from captions with a finished run.

    python -m launch.sample --run=experiments/004_every_family --prompt="a red circle moves right" --out=out.mp4
    python -m launch.sample --prompt="a red circle" --sampler=unipc --steps=10 --grid=karras --interval=0.2,0.9

`--out` ends in .mp4, .gif or .webp; a contact sheet .png is written beside it. `--image` starts from a picture.
"""
from pathlib import Path

from absl import flags

from launch import door, drawing

flags.adopt_module_key_flags(drawing)

PROMPT = flags.DEFINE_multi_string("prompt", None, "what to draw; repeat it for several clips", required=True)
OUT = flags.DEFINE_string("out", "out.mp4", "file to write: .mp4, .gif or .webp")
IMAGE = flags.DEFINE_string("image", "", "a picture that becomes the first frame")
GRID = flags.DEFINE_string("grid", "", "times of the sampler: shifted, karras or log-snr; empty: as configured")
ETA = flags.DEFINE_float("eta", None, "ddim: share of the noise that is drawn anew, 0 to 1")
RESCALE = flags.DEFINE_float("rescale", None, "share of the guided prediction brought to the unguided one's spread")
INTERVAL = flags.DEFINE_list("interval", None, "times between which there is guidance, e.g. 0.2,0.9; noise is at 1")
ZERO_STAR = flags.DEFINE_bool("zero_star", None, "scale the unguided prediction to lie nearest to the captioned one")
ZERO_STEPS = flags.DEFINE_integer("zero_steps", None, "first steps that are not walked")
GUIDANCE_KNOWN = flags.DEFINE_float("guidance_known", None, "guidance by the given picture; 1: shown, without guidance")
INTERPOLATE = flags.DEFINE_bool("interpolate", None, "squeeze the positions of a larger clip into those trained on")
GUIDE_RUN = flags.DEFINE_string("guide_run", "", "a weaker run that guides in place of the model without caption")


def changes() -> dict:
    """The fields of config.sampler that flags may replace, None where they do not. InputError for an interval that is
    not two numbers."""
    from sora_jax.types import InputError

    flagged = {"grid": GRID.value or None, "eta": ETA.value, "rescale": RESCALE.value, "interval": INTERVAL.value,
               "zero_star": ZERO_STAR.value, "zero_steps": ZERO_STEPS.value, "guidance_known": GUIDANCE_KNOWN.value,
               "interpolate": INTERPOLATE.value}
    if INTERVAL.value is not None:
        try:
            low, high = map(float, INTERVAL.value)
        except ValueError as error:
            raise InputError(f"--interval={','.join(INTERVAL.value)}: give two times, for example 0.2,0.9") from error
        flagged["interval"] = (low, high)
    return flagged


def run() -> None:
    """The door."""
    import numpy as np

    from sora_jax import video
    from sora_jax.pipeline import Pipeline

    out = Path(OUT.value)
    drawing.writable(out)
    options = drawing.options(**changes())
    pipeline = Pipeline.open(drawing.RUN.value, drawing.VAE.value)
    guide = Pipeline.open(GUIDE_RUN.value, drawing.VAE.value) if GUIDE_RUN.value else None
    size = drawing.size(pipeline.config.data)
    first = {}
    if IMAGE.value:
        picture = video.read_image(IMAGE.value, *size[1:])
        clips = np.broadcast_to(picture, (len(PROMPT.value), *size, 3))
        frames = pipeline.latent_shape(*size)[0]
        first = {"known": np.arange(frames) == 0, "clips": clips}
    clips = pipeline.sample(PROMPT.value, size=size, guide=guide, **options, **first)
    for i, clip in enumerate(clips):
        path = out if len(clips) == 1 else out.with_stem(f"{out.stem}-{i}")
        video.WRITERS[out.suffix](path, clip, pipeline.config.data.fps)
        shape = f"{clip.shape[0]} frames of {clip.shape[1]}×{clip.shape[2]}"
        print(f"{path}: {PROMPT.value[i]!r}, {shape}, seed {drawing.SEED.value}")
    video.write_image(out.with_suffix(".png"), video.contact_sheet(list(clips), labels=PROMPT.value))


if __name__ == "__main__":
    door.main(run)
