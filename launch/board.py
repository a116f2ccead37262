"""How a sweep stands: state, step, loss, rate, time left, attempts and last error of every run.

    python -m launch.board --experiment=001_first_curve
    python -m launch.board --experiment=001_first_curve --every=10 --html=runs/board.html
"""
import time
from pathlib import Path

from absl import flags

from launch import door, studies

EXPERIMENT = flags.DEFINE_string("experiment", None, "folder name under experiments/, or its number", required=True)
WORKDIR = flags.DEFINE_string("workdir", "", "folder of the runs; default runs/<experiment>")
EVERY = flags.DEFINE_float("every", 0.0, "seconds between looks; 0: look once", lower_bound=0.0)
HTML = flags.DEFINE_string("html", "", "also write the table to this file")


def run() -> None:
    """The door."""
    from sora_jax import board, build
    from sora_jax.train import loop

    name = studies.find(EXPERIMENT.value)
    root = Path(WORKDIR.value or f"runs/{name}")
    configs = studies.configs(name)
    while True:
        entries = [board.Entry(config.name, root / config.name, build.steps(config),
                               loop.finished(config, root / config.name)) for config in configs]
        table = board.rows(entries)
        print(board.text(table), flush=True)
        if HTML.value:
            board.write(HTML.value, f"{name}, {time.strftime('%Y-%m-%d %H:%M:%S')}", table)
        if not EVERY.value or all(row[1] in ("done", "failed") for row in table):
            return
        time.sleep(EVERY.value)


if __name__ == "__main__":
    door.main(run)
