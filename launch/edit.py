"""Draws the part of a clip that is not given, with a finished run: one checkpoint, a task is a mask.

    python -m launch.edit --task=extend --video=film.mp4 --prompt="a red circle moves right" --out=edit.mp4
    python -m launch.edit --task=inpaint --box=16,16,32,32 --clip=3          # a held-out clip of the physics worlds
    python -m launch.edit --task=ends --video=first.png --then=last.png --prompt="a red circle moves right"

Tasks: image (the first frame is given), ends (the first frame and the last latent frame), extend (the beginning),
extend_back (the end), join (both), inpaint (all but a box). `--out` ends in .mp4, .gif or .webp; a sheet of what was
given, drawn and true is written beside it, with a line around what was given.
"""
from pathlib import Path

from absl import flags

from launch import door, drawing

flags.adopt_module_key_flags(drawing)

TASKS = ("image", "ends", "extend", "extend_back", "join", "inpaint")
TASK = flags.DEFINE_enum("task", None, TASKS, "what is given", required=True)
VIDEO = flags.DEFINE_string("video", "", "film or picture; one as long as the clip is also the truth on the sheet")
THEN = flags.DEFINE_string("then", "", "ends, join: film or picture of the end; empty: the end of --video")
CLIP = flags.DEFINE_integer("clip", 0, "without --video: this held-out clip of uniform motion", lower_bound=0)
START = flags.DEFINE_float("start", 0.0, "seconds of --video that are left out", lower_bound=0.0)
GIVEN = flags.DEFINE_integer("given", 2, "extend, extend_back, join: latent frames given at each given end; the first "
                                         "is one frame of film, each other several", lower_bound=1)
BOX = flags.DEFINE_list("box", None, "inpaint: top,left,height,width in pixels, and down,right that it moves by")
PROMPT = flags.DEFINE_string("prompt", "", "what the clip shows; empty: the caption of --clip")
OUT = flags.DEFINE_string("out", "edit.mp4", "file to write: .mp4, .gif or .webp")


def hole():
    """The box of --box, or None. InputError for what is not four or six numbers."""
    from sora_jax.tasks import Box
    from sora_jax.types import InputError

    if BOX.value is None:
        return None
    try:
        numbers = [float(part) for part in BOX.value]
    except ValueError:
        numbers = []
    if len(numbers) not in (4, 6):
        raise InputError(f"--box={','.join(BOX.value)}: give top,left,height,width, for example 16,16,32,32, and "
                         "perhaps down,right")
    return Box(*numbers)


def material(size, fps: float, known):
    """(what is given, prompt) of the files or of a held-out clip."""
    from sora_jax import editing
    from sora_jax.datasets import physics
    from sora_jax.types import InputError

    if not VIDEO.value:
        if THEN.value:
            raise InputError(f"--then={THEN.value} is the end of a clip whose beginning is --video; give both")
        frames, height, width = size
        clip = physics.source(physics.Config(frames=frames, height=height, width=width, fps=fps, split="val",
                                             families=("uniform",)))[CLIP.value]
        return editing.lay(TASK.value, (clip.video,), known), PROMPT.value or clip.caption
    if not PROMPT.value.strip():
        raise InputError("--prompt is empty; say what the film shows, for example --prompt 'a red circle moves right'")
    films = [editing.read(Path(VIDEO.value), *size, fps, START.value)]
    films += [editing.read(Path(THEN.value), *size, fps)] if THEN.value else []
    return editing.lay(TASK.value, tuple(films), known), PROMPT.value


def run() -> None:
    """The door."""
    from sora_jax import editing, tasks, video
    from sora_jax.pipeline import Pipeline

    out, box = Path(OUT.value), hole()
    drawing.writable(out)
    pipe = Pipeline.open(drawing.RUN.value, drawing.VAE.value)
    data = pipe.config.data
    size = drawing.size(data)
    pipe.latent_shape(*size)
    known = tasks.given(TASK.value, size, pipe.vae.config.ratio, GIVEN.value, box)
    given, prompt = material(size, data.fps, known)
    made = editing.edit(pipe, prompt, given, **drawing.options())
    video.WRITERS[out.suffix](out, made.clip, data.fps)
    video.write_image(out.with_suffix(".png"), made.sheet)
    print(f"{out}: {TASK.value}, {prompt!r}, {known.mean():.0%} of the pixels given, {size[0]} frames of {size[1]}×"
          f"{size[2]}, seed {drawing.SEED.value}; known latents differ by at most {made.difference}")


if __name__ == "__main__":
    door.main(run)
