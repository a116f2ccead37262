"""Encodes captions once, by a published text encoder, for every transformer that reads its states.

    python -m launch.captions --encoder=umt5 --latents=runs/latents --out=runs/states --length=512
    python -m launch.captions --encoder=umt5 --prompts=prompts.txt --out=runs/states --length=512

`--encoder` is a folder of a T5, a UMT5 or CLIP's text side with its tokenizer.json. Train on the states with
--config.text.name=given --config.data.states=<out>. Stopped, it goes on where it was; states of another encoder in the
same folder are an error. Every caption that is to be drawn must be there too: `--prompts`, one a line.
"""
from pathlib import Path

from absl import flags

from launch import door

ENCODER = flags.DEFINE_string("encoder", None, "folder of a text encoder", required=True)
TOKENIZER = flags.DEFINE_string("tokenizer", "", "folder of its tokenizer.json, if that lies elsewhere")
LATENTS = flags.DEFINE_list("latents", "", "folders of latents, whose captions of all splits are encoded")
PROMPTS = flags.DEFINE_string("prompts", "", "a text file of captions, one a line")
OUT = flags.DEFINE_string("out", None, "folder for the states", required=True)
LENGTH = flags.DEFINE_integer("length", 512, "tokens of a caption at most; the rest is cut off", lower_bound=1)
BATCH = flags.DEFINE_integer("batch", 8, "captions at a time on the device", lower_bound=1)


def given() -> list[str]:
    """All captions that are asked for. Raises InputError if there are none."""
    from sora_jax.datasets import latents
    from sora_jax.types import InputError

    found = []
    for folder in LATENTS.value:
        splits = sorted(path.parent for path in Path(folder).glob("*/meta.json"))
        if not splits:
            raise InputError(f"--latents={folder} holds no latents; make them with {latents.COMMAND.format(folder)}")
        for split in splits:
            found += latents.source(latents.Config(str(split))).every_caption()
    if PROMPTS.value:
        try:
            lines = Path(PROMPTS.value).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"--prompts={PROMPTS.value} cannot be read as text ({error})") from error
        found += [line.strip() for line in lines if line.strip()]
    if not found:
        raise InputError("there are no captions; give --latents=<folder of latents> or --prompts=<file of captions>")
    return found


def run() -> None:
    """The door."""
    from sora_jax import captions, report

    asked = given()
    encoder, distinct = captions.open_encoder(ENCODER.value, TOKENIZER.value), len(set(asked))
    with report.progress(distinct, "captions") as bar:
        kept, made = captions.keep(encoder, asked, LENGTH.value, OUT.value, BATCH.value, bar.update)
    size = sum(kept.path(caption).stat().st_size for caption in set(asked)) / 2**20
    print(f"{OUT.value}: {distinct} captions of {len(asked)}, {made} of them new, {size:.1f} MiB, {kept.origin.width} "
          f"numbers a token\ntrain on them with --config.text.name=given --config.text.width={kept.origin.width} "
          f"--config.text.length={LENGTH.value} --config.data.states={OUT.value}")


if __name__ == "__main__":
    door.main(run)
