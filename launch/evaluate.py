"""Scores a finished run and writes what it found, with the recipe of every number.

    python -m launch.evaluate --run=experiments/001_first_curve --prompts=256 --out=runs/evaluation

An autoencoder: PSNR, SSIM, flicker, latent statistics and spectra of held-out clips (of a folder of videos with
--videos), PSNR and SSIM of each film, and feature distances if python -m launch.features got their weights. A
transformer: prompt adherence on captions that no training clip carries, the share of their subjects that stand whole
in the frame, and the velocity error next to the parser floor and the autoencoder floor. With --edits=image,extend,...
it is scored on these tasks of launch.edit alone.
"""
import json
from pathlib import Path

from absl import flags

from launch import door

RUN = flags.DEFINE_string("run", None, "run folder, committed weights, or a weights file", required=True)
OUT = flags.DEFINE_string("out", "", "folder for evaluation.json and the sheets; default <run>/evaluation")
PROMPTS = flags.DEFINE_integer("prompts", 256, "captions to draw", lower_bound=1)
CLIPS = flags.DEFINE_integer("clips", 64, "held-out clips for reconstruction and velocity", lower_bound=1)
VIDEOS = flags.DEFINE_string("videos", "", "folder of videos to score an autoencoder on; empty: its val split")
FAMILIES = flags.DEFINE_list("families", "uniform,composition", "families the captions come from")
COLOURS = flags.DEFINE_list("colours", "", "colours the captions name; empty: the eight of the palette")
MOTIONS = flags.DEFINE_multi_enum("motion", ["id"], ["id", "ood_speed", "ood_radius"],
                                  "speeds and sizes whose velocity error is measured; may be given again")
EDITS = flags.DEFINE_list("edits", "", "editing tasks to score in place of captions, see launch.edit")
SAMPLER = flags.DEFINE_string("sampler", "", "ddim, ddpm, dpmpp, euler, heun, sde or unipc; empty: as configured")
STEPS = flags.DEFINE_integer("steps", 0, "sampler steps; 0: as configured", lower_bound=0)
GUIDANCE = flags.DEFINE_float("guidance", -1.0, "classifier-free guidance; negative: as configured")
SEED = flags.DEFINE_integer("seed", 0, "of the noise")
SHOWN = 4  # clips on an autoencoder's sheet


def autoencoder(run, out: Path) -> dict:
    """Reconstruction, motion, features and latents of held-out clips, or of a folder of videos."""
    from sora_jax import appraise, collate, pretrained, sources, video

    config, changes = run.config.copy_and_resolve_references(), {}
    if VIDEOS.value:
        changes = {"path": VIDEOS.value, "manifest": "", "held_out": 0.0, "quarantine": str(out / "quarantine.jsonl"),
                   "span": (0.0, 1.0), "held_span": ()}
        with config.unlocked():
            config.data.name = "videos"
    source = sources.dataset(config, split="val", **changes)
    clips, _, truths = collate.draw(source, range(min(CLIPS.value, len(source))))
    found, back = appraise.evaluate(run.model, clips, pretrained.features() if pretrained.available() else None)
    shown = sorted({round(place * (len(clips) - 1) / max(1, SHOWN - 1)) for place in range(SHOWN)})
    video.write_image(out / "reconstructions.png", appraise.sheet(clips[shown], back[shown]))
    if config.data.name == "videos":
        found["films"] = appraise.by_film(clips, back, [truth["path"] for truth in truths])
    span = "" if VIDEOS.value or not config.data.get("held_span") else f", {config.data.held_span} of each film"
    origin = VIDEOS.value or f"the val split{span}"
    recipe = f"{len(clips)} clips of {origin}, {clips.shape[1:]}, posterior mean, MSE over all pixels"
    return {**found, "recipe": recipe, "autoencoder": run.meta.get("hash", "an unfinished run"), "name": config.name}


def edits(pipe, out: Path, **options) -> dict:
    """Editing tasks on held-out clips of uniform motion."""
    from sora_jax import disk, referee, tasks, video
    from sora_jax.types import InputError

    if other := [name for name in EDITS.value if name not in tasks.TASKS]:
        raise InputError(f"--edits={other[0]}: there are {', '.join(tasks.TASKS)}")
    recipe = {**options,
              "clips": f"{CLIPS.value} held-out clips of uniform motion; velocity error in heights/s over the scored "
                       "frames [from, to), PSNR over the pixels of known tokens and over the others",
              "drawn": "what is not given is hidden before the autoencoder sees the clip: the nearest given frame, or "
                       "the mean colour of what is given of the frame", "told": "latents of whole clips",
              "still": "the hidden clip itself",
              "inpaint": f"a box of {referee.SIDE} heights that moves with the object"}

    def keep(found):
        disk.write(out / "evaluation.json", json.dumps({"edits": found, "recipe": recipe}, indent=1).encode())

    out.mkdir(parents=True, exist_ok=True)
    found, sheet = referee.evaluate(pipe, EDITS.value, CLIPS.value, keep, **options)
    video.write_image(out / "edits.png", sheet)
    return {"edits": found, "recipe": recipe}


def transformer(out: Path) -> dict:
    """Adherence and velocity, or editing tasks."""
    from sora_jax import judge, video
    from sora_jax.pipeline import Pipeline

    pipe = Pipeline.open(RUN.value)
    rule = pipe.config.sampler
    options = {"sampler": SAMPLER.value or rule.name, "steps": STEPS.value or rule.steps, "seed": SEED.value,
               "guidance": rule.guidance if GUIDANCE.value < 0 else GUIDANCE.value}
    if EDITS.value:
        return edits(pipe, out, **options)
    asked = judge.unseen(PROMPTS.value, FAMILIES.value, pipe, COLOURS.value)
    drawn, found = judge.adherence(pipe, asked, **options)
    families = judge.by_family(drawn, asked, pipe)
    speed = {"velocity" if name == "id" else f"velocity_{name}": judge.velocity(pipe, CLIPS.value, name, **options)
             for name in MOTIONS.value}
    video.write_image(out / "samples.png", video.contact_sheet(list(drawn[:: max(1, len(drawn) // 16)][:16]),
                      labels=[p.text for p in asked[:: max(1, len(asked) // 16)][:16]]))
    recipe = {**options, "families": FAMILIES.value,
              **({"colours": COLOURS.value} if COLOURS.value else {}),
              "prompts": f"{PROMPTS.value} different captions of the withheld tenth, in no training clip",
              "velocity": f"{CLIPS.value} held-out clips of uniform motion, 5 frames given, the rest scored, heights/s"}
    return {"adherence": found, "framing": judge.framing(drawn, asked, pipe), "by_family": families, **speed,
            "recipe": recipe}


def run() -> None:
    """The door."""
    from sora_jax import checkpoint
    from sora_jax.types import InputError

    opened = checkpoint.load_for_inspection(RUN.value)
    if VIDEOS.value and opened.config.stage != "vae":
        raise InputError(f"--videos={VIDEOS.value} scores an autoencoder; {RUN.value} is a {opened.config.stage} run")
    base = Path(RUN.value)
    out = Path(OUT.value or (base if base.is_dir() else base.parent) / "evaluation")
    found = autoencoder(opened, out) if opened.config.stage == "vae" else transformer(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.json").write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    door.main(run)
