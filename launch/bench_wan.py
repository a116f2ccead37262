"""Measures our autoencoder of Wan 2.1 beside diffusers' in eager torch, on the same weights and clips, on this machine.

    python -m launch.bench_wan --clips=17x64x64,9x128x128 --out=wan.json

Base width 32, as drawn by torch. Encode, decode, and forward + backward (mean squared error of the decoded mean, its
gradient to all weights) take turns, torch first; prints the median seconds, the median over turns of torch's time
divided by ours, and how far the answers are apart. Each side is a process of its own; memory is the peak resident size
of a process that did that part alone, libraries, weights and compilation included, and what of it was there before.
"""
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import flags

from launch import door

CLIPS = flags.DEFINE_list("clips", ["17x64x64", "9x128x128"], "frames x height x width")
ROUNDS = flags.DEFINE_integer("rounds", 7, "turns of each side", lower_bound=1)
MEMORY = flags.DEFINE_boolean("memory", True, "weigh each part in processes of its own as well")
CPU = flags.DEFINE_boolean("cpu", False, "count processor seconds, not those on the wall: where other work runs too")
OUT = flags.DEFINE_string("out", "", "JSON file to write the rows to")
SIDE = flags.DEFINE_enum("side", "", ["", "torch", "jax"], "what a process of the benchmark is; not for people")
FOLDER = flags.DEFINE_string("folder", "", "where the sides meet; not for people")

PARTS = ("encode", "decode", "update")
WAN = {"base_dim": 32, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2,
       "temperal_downsample": [False, True, True], "latents_mean": [0.0] * 16, "latents_std": [1.0] * 16}


def torch_side(folder: Path, clips: dict):
    """Draws weights and clips into the folder, and returns a function that does one part of one clip."""
    import numpy as np
    import torch
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    if not (folder / "vae").exists():
        AutoencoderKLWan(**WAN).save_pretrained(folder / "vae")
    model = AutoencoderKLWan.from_pretrained(folder / "vae")
    model.requires_grad_(True)
    pixels = {name: torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
              for name, shape in clips.items()}
    for name, x in pixels.items():
        np.save(folder / f"{name}.npy", x.permute(0, 2, 3, 4, 1).numpy())
    codes = {name: torch.randn(1, 16, 1 + (frames - 1) // 4, height // 8, width // 8,
                               generator=torch.Generator().manual_seed(2))
             for name, (frames, height, width) in clips.items()}
    for name, z in codes.items():
        np.save(folder / f"{name}.latents.npy", z.permute(0, 2, 3, 4, 1).numpy())

    def do(part, name):
        if part != "update":
            with torch.no_grad():
                y = (model.encode(pixels[name]).latent_dist.mode() if part == "encode"
                     else model.decode(codes[name]).sample)
            return y.permute(0, 2, 3, 4, 1).numpy()
        model.zero_grad()
        loss = ((model.decode(model.encode(pixels[name]).latent_dist.mode()).sample - pixels[name]) ** 2).mean()
        loss.backward()
        slopes = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        return np.array([loss.item(), torch.sqrt(sum((slope**2).sum() for slope in slopes)).item()])
    return do


def jax_side(folder: Path, clips: dict):
    """Reads weights and clips from the folder, and returns a function that does one part of one clip."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from flax import nnx

    from configs import wan
    from sora_jax import bridge, build

    opened = bridge.open_folder(folder / "vae", "diffusers-wan-vae", wan.get_config())
    graph, state = nnx.split(build.model(opened.config, jax.tree.map(jnp.asarray, bridge.params(opened))))

    def update(state, x):
        def loss(state):
            model = nnx.merge(graph, state)
            return jnp.mean((model.decode(model.encode(x)) - x) ** 2)

        value, slopes = jax.value_and_grad(loss)(state)
        nets = [slopes["encoder"], slopes["decoder"]]
        return jnp.stack([value, jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(nets)))]), slopes

    jitted = {"encode": jax.jit(lambda state, x: nnx.merge(graph, state).encode(x)),
              "decode": jax.jit(lambda state, z: nnx.merge(graph, state).decode(z)), "update": jax.jit(update)}
    given = {(part, name): jnp.asarray(np.load(folder / f"{name}{'.latents' * (part == 'decode')}.npy"))
             for part in PARTS for name in clips}

    def do(part, name):
        out = jax.block_until_ready(jitted[part](state, given[part, name]))
        return np.asarray(out[0] if part == "update" else out)
    return do


def serve() -> None:
    """A side: a line `part clip` on stdin, a line of JSON back; the answer itself lies in the folder."""
    import numpy as np

    door.keep_large_memory()  # of both sides; ours as launch.train does it for such clips
    folder = Path(FOLDER.value)
    do = {"torch": torch_side, "jax": jax_side}[SIDE.value](folder, sizes())
    print(json.dumps({"before": resident()}), flush=True)
    for line in sys.stdin:
        part, name = line.split()
        wall, own = time.perf_counter(), time.process_time()
        answer = do(part, name)
        took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - own}
        np.save(folder / f"{SIDE.value}.npy", answer)
        print(json.dumps(took | {"peak": resident()}), flush=True)


def resident() -> float:
    """Peak resident MiB of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def sizes() -> dict[str, tuple[int, ...]]:
    """The clips by name. Raises ConfigError naming the flag."""
    from sora_jax.types import ConfigError

    try:
        made = {name: tuple(int(size) for size in name.split("x")) for name in CLIPS.value}
    except ValueError:
        made = {}
    if not made or any(len(s) != 3 or s[0] < 5 or s[0] % 4 != 1 or s[1] % 8 or s[2] % 8 or min(s) < 1
                       for s in made.values()):
        raise ConfigError(f"--clips={','.join(CLIPS.value)}: give FRAMESxHEIGHTxWIDTH,"
                          " 4k + 1 frames and multiples of 8")
    return made


class Side:
    """A process that does parts when asked."""

    def __init__(self, name: str, folder: str, clips: list[str]):
        self.answer = Path(folder) / f"{name}.npy"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "launch.bench_wan", f"--side={name}", f"--folder={folder}",
             f"--clips={','.join(clips)}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu"})
        self.before = self.heard()["before"]

    def heard(self) -> dict[str, float]:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a side of the benchmark ended with code {self.process.wait()}; its error is above")
        return json.loads(line)

    def do(self, part: str, clip: str) -> dict[str, float]:
        self.process.stdin.write(f"{part} {clip}\n")
        self.process.stdin.flush()
        return self.heard()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def apart(sides: list[Side]) -> float:
    """The largest difference of the last answers, relative to the largest value."""
    import numpy as np

    there, here = (np.load(side.answer) for side in sides)
    return float(np.abs(there - here).max() / np.abs(there).max())


def memory(part: str, clip: str, folder: str) -> list[dict[str, float]]:
    """Peak and starting MiB of each side, in a process that does this part twice and no other."""
    rows = []
    for name in ("torch", "jax"):
        side = Side(name, folder, [clip])
        side.do(part, clip)
        rows.append({"peak": side.do(part, clip)["peak"], "before": side.before})
        side.close()
    return rows


def run() -> None:
    """The door."""
    import importlib.util

    from sora_jax.types import ConfigError

    sizes()
    for needed in ("torch", "diffusers"):
        if importlib.util.find_spec(needed) is None:
            raise ConfigError(f"launch.bench_wan needs {needed}: pip install -e '.[parity]'")
    if SIDE.value:
        return serve()
    clock, rows = "cpu" if CPU.value else "wall", []
    print(f"{'clip':12}{'part':8}{'torch s':>10}{'jax s':>10}{'ratio':>8}{'apart':>10}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        sides = [Side(name, folder, CLIPS.value) for name in ("torch", "jax")]
        for clip in CLIPS.value:
            for part in PARTS:
                turns = [[side.do(part, clip)[clock] for side in sides] for _ in range(1 + ROUNDS.value)][1:]
                there, here = (statistics.median(times) for times in zip(*turns, strict=True))
                rows.append({"clip": clip, "part": part, "clock": clock, "torch_seconds": there, "jax_seconds": here,
                             "ratio": statistics.median(a / b for a, b in turns), "apart": apart(sides),
                             "turns": turns})
                print(f"{clip:12}{part:8}{there:10.3f}{here:10.3f}{rows[-1]['ratio']:8.2f}{rows[-1]['apart']:10.1e}",
                      flush=True)
        for side in sides:
            side.close()
        if MEMORY.value:
            print(f"\n{'clip':12}{'part':8}{'torch MiB':>16}{'jax MiB':>16}", flush=True)
        for row in rows if MEMORY.value else []:
            row["torch_mib"], row["jax_mib"] = memory(row["part"], row["clip"], folder)
            size = [f"{row[name]['peak']:.0f} ({row[name]['before']:.0f})" for name in ("torch_mib", "jax_mib")]
            print(f"{row['clip']:12}{row['part']:8}{size[0]:>16}{size[1]:>16}", flush=True)
    if OUT.value:
        Path(OUT.value).write_text(json.dumps(rows, indent=1) + "\n")
    return None


if __name__ == "__main__":
    door.main(run)
