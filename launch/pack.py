"""Before clips of many sizes are encoded and packed: what is kept, cropped, shortened and dropped, and what is wasted.

    python -m launch.pack --videos=films --tokens=320
    python -m launch.pack --videos=films --side=64 --tokens=320 --clips=16 --out=runs/native

With --out there is a manifest of the files of each layout, and the commands that encode them, each at its own size, and
train on all. Of each file one frame is decoded. The autoencoder, the patch and the frame rate are the config's; other
changes to it are to be said again in the last command.
"""
import csv
import io
import shlex
import sys
from pathlib import Path

from absl import flags

from launch import door

CONFIG = door.define_config("configs/dit.py")
VIDEOS = flags.DEFINE_string("videos", None, "folder of video files", required=True)
TOKENS = flags.DEFINE_integer("tokens", 320, "tokens of a row", lower_bound=1)
CLIPS = flags.DEFINE_integer("clips", 8, "clips that a row takes at most", lower_bound=1)
SIDE = flags.DEFINE_integer("side", 0, "shrink pictures until the shorter side has so many pixels; 0: never",
                            lower_bound=0)
OUT = flags.DEFINE_string("out", "", "new folder for manifests and commands; empty: the table alone")


def run() -> None:
    """The door."""
    from sora_jax import build, disk, preflight
    from sora_jax.datasets import videos
    from sora_jax.types import InputError
    from sora_jax.video import listing

    root, config = Path(VIDEOS.value), CONFIG.value
    if not root.is_dir():
        raise InputError(f"--videos={VIDEOS.value}: no such folder")
    ratio, patch = build.vae_config(config).ratio, tuple(config.model.patch)
    grain = preflight.Grain(ratio, patch, config.data.fps, TOKENS.value, SIDE.value)
    plans = preflight.files(root, [row.name for row in listing.scan(root)], grain)
    print(preflight.table(plans, TOKENS.value, CLIPS.value))
    by = preflight.layouts(plans)
    if not by:
        raise InputError(f"--videos={VIDEOS.value}: nothing is left to train on")
    if not OUT.value:
        return
    out, commands, roots = disk.fresh(OUT.value), ["set -e"], []
    out.mkdir(parents=True, exist_ok=True)
    python, quote = sys.executable, shlex.quote
    for layout, members in by.items():
        roots.append(out / "x".join(map(str, layout)))
        rows = [(one.name, listing.sidecar(root / one.name)) for one in members]
        disk.write(Path(f"{roots[-1]}.csv"), manifest(rows))
        vae = f" --vae={quote(config.vae.weights)}" if config.vae.weights else ""
        commands.append(f"{python} -m launch.encode --config=configs/vae.py{vae} --clips=0,0 --config.data.name=videos "
                        f"--config.data.path={quote(str(root))} --config.data.manifest={quote(f'{roots[-1]}.csv')} "
                        f"{sized(members[0].used, config.data.fps)} --out={quote(str(roots[-1]))}")
    first = next(iter(by.values()))
    held = len(listing.chosen([listing.Row(one.name) for one in first], "val", videos.Config().held_out))
    native = "(" + "".join(f"'{place}'," for place in roots[1:]) + ")"
    commands.append(f"{python} -m launch.train {quote(f'--config={door.config_path()}')} "
                    f"--config.data.path={quote(str(roots[0]))} --config.data.native={quote(native)} "
                    f"{sized(first[0].used, config.data.fps)} --config.eval.clips={min(config.eval.clips, held)} "
                    f"--config.train.pack_tokens={TOKENS.value} --config.train.pack_clips={CLIPS.value} "
                    f"--workdir={quote(str(out / 'run'))}")
    disk.write(out / "commands.sh", ("\n".join(commands) + "\n").encode())
    print(f"wrote {len(by)} manifests and commands.sh to {out}; of the {len(first)} files of the first layout, {held} "
          f"are held out{' and trained on as well, for want of more' if held == len(first) else ''}")


def sized(used: tuple[int, int, int], fps: float) -> str:
    """The flags of a clip size."""
    sides = zip(("frames", "height", "width"), used, strict=True)
    return " ".join(f"--config.data.{axis}={value}" for axis, value in (*sides, ("fps", f"{fps:g}")))


def manifest(rows: list[tuple[str, str]]) -> bytes:
    """Paths and captions as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("path", "caption"), *rows])
    return text.getvalue().encode()


if __name__ == "__main__":
    door.main(run)
