"""The main job whole, small enough for two CPU cores: encode, train a ladder, fit its law, sample, score, report.

    bash launch/demo.sh

Everything it makes is in --workdir; run again, it goes on where it stopped. The autoencoder and the model that draws
are the committed ones of experiments/; the ladder is trained here and now.
"""
import json
import time
from pathlib import Path

from absl import flags

from launch import door

WORKDIR = flags.DEFINE_string("workdir", "runs/demo", "folder for everything the demo makes")
CLIPS = flags.DEFINE_integer("clips", 10_240, "clips that each size of the ladder trains on", lower_bound=1024)
ENCODED = flags.DEFINE_integer("encoded", 4096, "clips to encode", lower_bound=256)
SCORED, GUIDANCE = 35, 2.5
SIZES = ("w80d4", "w96d4", "w112d4", "w128d4")
ROOT = Path(__file__).resolve().parents[1] / "experiments"
MODEL, CODER, STUDY = ROOT / "004_every_family", ROOT / "000_autoencoder", ROOT / "002_isoflop_physics"
ASKED = (
    "a red circle moves right", "a blue square moves left", "a green triangle moves up", "a yellow circle moves down",
    "two red squares", "a purple circle left of an orange square", "an orange triangle bounces off the right wall",
    "a cyan circle moves right behind a dark slab",
)
FURTHER = """bash launch/test.sh
.venv/bin/python -m launch.sample --run=experiments/004_every_family --guidance=2.5 --prompt="a red ball" --out=ball.mp4
.venv/bin/python -m launch.evaluate --run=experiments/004_every_family --guidance=2.5 --out=runs/evaluation
.venv/bin/python -m launch.sweep --experiment=001_first_curve --dry
.venv/bin/python -m launch.plan --config=configs/dit.py:XL
.venv/bin/python -m launch.figure --experiment=002 --report --out=runs/figure"""


def stage(number: int, words: str) -> None:
    """Say which stage begins, and how long the demo has run."""
    print(f"[{number}/5] {words} ({time.perf_counter() - STARTED:.0f} s)", flush=True)


STARTED = time.perf_counter()


def encoded(root: Path) -> None:
    """Latents of the physics worlds, with the committed autoencoder."""
    from configs import vae
    from sora_jax import encoding, pipeline

    config, options = vae.get_config(), encoding.Options(root / "latents", batch=32, command="bash launch/demo.sh")
    coder, meta = pipeline.autoencoder(CODER)
    for split, count in (("train", ENCODED.value), ("val", 128)):
        encoding.encode(config, coder, meta, split, count, options)


def ladder(root: Path) -> list[dict]:
    """One constant-rate run per size with cooldown branches at a quarter and a half; returns their records."""
    from configs import dit
    from sora_jax.train import loop

    records = []
    for size in SIZES:
        config = dit.get_config(size)
        config.data.path = str(root / "latents")
        config.train.clips, config.train.branches = CLIPS.value, (0.25, 0.5)
        config.train.evaluate, config.train.save = 0.5, 0.5
        config.eval.clips = 128
        records += loop.run(config, root / config.name)
    return records


def law(root: Path, records: list[dict]):
    """The fitted law and its figure."""
    from sora_jax.scaling import figure, fit
    from sora_jax.scaling import records as ledger

    fitted = fit.fit(ledger.points(records))
    figure.curve(records, fitted, root / "figure.svg")
    return fitted


def films(pipe, prompts, **options) -> list:
    """Playing clips, each under its prompt."""
    from sora_jax import page, video

    drawn = pipe.sample(list(prompts), **options)
    return [page.Movie(video.encode_mp4(clip, pipe.config.data.fps), text)
            for clip, text in zip(drawn, prompts, strict=True)]


def reconstructed(vae, config) -> tuple[list, dict]:
    """Originals and reconstructions as films, and how close they are."""
    from sora_jax import collate, page, pipeline, sources, video
    from sora_jax.evals import reconstruction

    clips, captions, _ = collate.draw(sources.dataset(config, split="val"), range(16))
    back = pipeline.decode(vae, pipeline.encode(vae, clips))
    shown = []
    for i in range(4):
        shown.append(page.Movie(video.encode_mp4(clips[i], 8), f"original: {captions[i]}"))
        shown.append(page.Movie(video.encode_mp4(back[i], 8), "reconstruction"))
    return shown, reconstruction.evaluate(lambda x: pipeline.decode(vae, pipeline.encode(vae, x)), clips)


def scores(pipe, count: int) -> list[list]:
    """Rows of what was asked and how often the clip shows it."""
    from sora_jax import judge

    asked = judge.unseen(count, tuple(pipe.config.data.families), pipe)
    _, found = judge.adherence(pipe, asked, seed=1, guidance=GUIDANCE)
    rows = [[name, f"{100 * f['right']:.0f} %", f"{100 * f['low']:.0f}–{100 * f['high']:.0f} %", f["asked"]]
            for name, f in found.items()]
    speed = judge.velocity(pipe, 16, seed=1, guidance=GUIDANCE)
    return rows + [[f"velocity error, {name.replace('_', ' ')}", f"{s['mean']:.3f} heights/s", f"± {s['se']:.3f}", 16]
                   for name, s in speed.items()]


def sections(root: Path, records: list[dict], fitted, committed, drawn, early) -> list:
    """What the report shows, in order."""
    from configs import vae as vae_config
    from sora_jax import page

    shown, close = reconstructed(committed.vae, vae_config.get_config())
    best, readings = committed.record or {}, json.loads((STUDY / "readings.json").read_text())
    seconds = sum(record["train_seconds"] for record in records if record["branch_of"] is None)
    return [
        ("The law of this machine's own runs", [
            f"{len(records)} annealed points, {len(SIZES)} sizes at {len(records) // len(SIZES)} data sizes each, "
            f"trained just now in {seconds:.0f} s.", page.Figure(root / "figure.svg"), page.Pre(str(fitted)),
            "Runs this short fix a law only loosely; experiments/002_isoflop_physics is a study with a held-out run."]),
        ("Train large and stop early, or grow both?", [
            "Two recipes for a budget contradict each other. What the committed runs of experiments/002_isoflop_physics"
            " support:", page.Pre(readings["verdict"]), page.Figure(STUDY / "readings.svg")]),
        ("Video from captions", [f"Drawn by the committed model: {best.get('model')}, trained on "
                                 f"{best.get('clips', 0):,} clips and {best.get('images', 0):,} one-frame clips, "
                                 f"beginning with the weights of {best.get('started_from')}.", *drawn]),
        ("The same captions after a few CPU minutes", [
            f"{SIZES[-1]} of the ladder above, {CLIPS.value:,} clips: too young to draw, for comparison.", *early]),
        ("Reconstructions", [
            f"The autoencoder, 4×8×8: PSNR {close['psnr']:.1f} dB over all pixels, {close['psnr_foreground']:.1f} dB "
            f"over the foreground, on {close['clips']} held-out clips.", *shown]),
        ("Physics scores of the committed model", [
            f"{SCORED} captions that no training clip carries; velocity of clips whose first five frames were given.",
            page.Table(("question", "right", "95 %", "asked"), scores(committed, SCORED))]),
        ("Further", [page.Pre(FURTHER)]),
    ]


def run() -> None:
    """The door."""
    from sora_jax import page
    from sora_jax.pipeline import Pipeline

    root = Path(WORKDIR.value)
    committed = Pipeline.open(MODEL)
    stage(1, "encoding clips of the physics worlds with the committed autoencoder")
    encoded(root)
    stage(2, f"training {len(SIZES)} sizes, each with two cooldown branches, on this machine")
    records = ladder(root)
    stage(3, "fitting the law L(N, D) = E + A/N^alpha + B/D^beta")
    fitted = law(root, records)
    stage(4, "drawing video from captions")
    drawn = films(committed, ASKED, guidance=GUIDANCE)
    early = films(Pipeline.open(root / f"dit-{SIZES[-1]}"), ASKED[:4])
    stage(5, "scoring, and writing the report")
    title = "sora_jax: a scaling curve and sampled video"
    path = page.page(root / "report.html", title, sections(root, records, fitted, committed, drawn, early))
    print(f"done in {time.perf_counter() - STARTED:.0f} s; open {path}")


if __name__ == "__main__":
    door.main(run)
