"""Measures our diffusion transformer beside the same function in eager torch, on the same weights, on this machine.

    python -m launch.bench_dit --cases=w256,S/2,w64d4,sample-w128 --out=dit.json
    python -m launch.bench_dit --core=1 --cpu --cases=w64d4     # one thread each on core 1: where other work runs too

Class-conditional, adaLN-Zero, flow matching. An update draws times and noise, and clips, steps (AdamW) and averages;
a sample is 50 guided Euler steps. First the answers are compared: the losses of three updates on one set of draws, or
the latents. Then the sides take turns; prints median seconds and the median over turns of torch's time divided by
ours, beside the least that is wanted, and the seconds until the first of our answers, compilation included. Each side
is a process of its own. --shares says where the time of ours goes.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from absl import flags

from launch import door


class Case(NamedTuple):
    """Shape, latents `f h w z`, batch, updates or samples in a turn, and the least ratio that is wanted."""

    width: int
    depth: int
    heads: int
    latents: tuple[int, int, int, int]
    batch: int
    turn: int
    wanted: float
    steps: int = 0  # of the sampler; 0: an update

    @property
    def tokens(self) -> int:
        frames, height, width, _ = self.latents
        return frames * height * width // 4


IMAGE, CLIP = (1, 36, 36, 4), (5, 8, 8, 16)
CASES = {
    "w256": Case(256, 8, 4, IMAGE, 8, 1, 1 / 1.2),
    "S/2": Case(384, 12, 6, (1, 32, 32, 4), 8, 1, 1 / 1.2),
    "w32d2": Case(32, 2, 2, CLIP, 32, 20, 1.3),
    "w48d3": Case(48, 3, 3, CLIP, 32, 10, 1.3),
    "w64d4": Case(64, 4, 4, CLIP, 32, 5, 1.3),
    "w96d4": Case(96, 4, 4, CLIP, 32, 4, 1.3),
    "sample-w128": Case(128, 4, 4, (1, 16, 16, 4), 4, 1, 1.5, 50),
    "sample-w256": Case(256, 8, 4, IMAGE, 4, 1, 1 / 1.2, 50),
}
CHOSEN = flags.DEFINE_list("cases", list(CASES), "what to measure")
ROUNDS = flags.DEFINE_integer("rounds", 7, "turns of each side", lower_bound=1)
CORE = flags.DEFINE_integer("core", -1, "the core that both sides are pinned to, one thread each; -1: all cores")
CPU = flags.DEFINE_boolean("cpu", False, "count processor seconds, not those on the wall")
SHARES = flags.DEFINE_boolean("shares", False, "say where the time of ours goes as well")
OUT = flags.DEFINE_string("out", "", "JSON file to write the rows to")
SIDE = flags.DEFINE_enum("side", "", ["", "torch", "jax"], "what a process of the benchmark is; not for people")
FOLDER = flags.DEFINE_string("folder", "", "where the sides meet; not for people")
CLASSES, GUIDANCE, UPDATES, THIN = 1000, 4.0, 3, 97
SAME = {"update": 1e-5, "sample": 1e-3}  # largest relative difference of the answers; 50 guided steps amplify theirs


def config_of(case: Case):
    """The run of this case."""
    from configs import dit_image

    config = dit_image.get_config("S/2")
    config.model.width, config.model.depth, config.model.heads = case.width, case.depth, case.heads
    config.model.time_shift, config.model.positions = 0.0, "sincos"
    config.text.width, config.text.classes = case.width, CLASSES
    config.vae.channels = case.latents[3]
    config.objective.name, config.objective.kind, config.objective.time = "flow", "", "uniform"
    config.train.batch = case.batch
    return config


def jax_side(folder: Path, case: Case):
    """Writes weights, batch and draws into the folder; (do(count), check(), program())."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from flax import nnx, traverse_util

    from sora_jax import build, registry
    from sora_jax.train import program, state
    from sora_jax.types import Batch

    config = config_of(case)
    mesh = build.mesh(config)
    made = program.program(config, mesh)
    begun = state.initial(lambda: build.learner(config, 0), made.tx, mesh)
    leaves, tree = jax.tree.flatten(begun.params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    params = jax.tree.unflatten(tree, [leaf + 0.02 * jax.random.normal(key, leaf.shape)
                                       for key, leaf in zip(keys, leaves, strict=True)])
    text, mask = registry.load("models", config.text.name).tokenize([str(7 * i) for i in range(case.batch)])
    clips = Batch(jax.random.normal(jax.random.key(2), (case.batch, *case.latents)), jnp.asarray(text),
                  jnp.asarray(mask))
    model = nnx.merge(made.graph, nnx.State(params))
    held = {f"weights/{'/'.join(path)}": leaf for path, leaf in traverse_util.flatten_dict(params).items()}
    held |= draws(config, model, clips, case)
    np.savez(folder / "case.npz", **{name: np.asarray(leaf) for name, leaf in held.items()})
    if case.steps:
        return samples(config, model, clips, case)
    current = begun._replace(params=params, ema=jax.tree.map(jnp.copy, params))
    rate = jnp.float32(config.optimizer.lr)

    def updates(count):
        nonlocal current
        for _ in range(count):
            current, scalars = made.update(current, clips, rate)
        return float(scalars["loss"])

    return (updates, lambda: [updates(1) for _ in range(UPDATES)],
            lambda: made.update.lower(current, clips, rate).compile().as_text())


class Recorder:
    """Stands in the place of a model, predicts zeros and keeps what it was asked."""

    def __init__(self, model):
        self.tokenise, self.layout, self.asked = model.tokenise, model.layout, None

    def __call__(self, *asked, **_):
        self.asked = asked
        return 0 * asked[0]


def draws(config, model, clips, case: Case) -> dict:
    """What torch needs to do the same: tokens, positions' features, labels, and the draws of the first updates."""
    import jax.numpy as jnp
    import numpy as np
    from jax import random

    from sora_jax import build

    x0, places = model.tokenise(clips.x)
    objective, recorder = build.objective(config), Recorder(model)
    label, rows = clips.text[:, 0].astype(int) * 256 + clips.text[:, 1], []
    for step in range(UPDATES):
        objective.loss(recorder, clips, random.fold_in(random.key(config.seed), step))
        xt, _, levels, _, _, mask, *_ = recorder.asked
        t = np.asarray(levels, float)[:, -1]
        far = t[:, None, None]
        eps = (np.asarray(xt, float) - (1 - far) * np.asarray(x0, float)) / far
        rows.append((t.astype(np.float32), eps.astype(np.float32), np.where(mask[:, 0], label, CLASSES)))
    t, eps, labels = map(np.stack, zip(*rows, strict=True))
    noise = model.tokenise(random.normal(random.split(random.key(3))[0], clips.x.shape))[0]
    return {"x0": x0, "places": model.placed(jnp.zeros((1, case.tokens, case.width)), places[:1], None),
            "label": label, "t": t, "eps": eps, "labels": labels, "noise": noise,
            "times": np.linspace(1, 0, case.steps + 1, dtype=np.float32)}


def samples(config, model, clips, case: Case):
    """(do(count), check(), program()) of guided sampling."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from flax import nnx

    from sora_jax import build, generate, registry

    objective, euler, key = build.objective(config), registry.load("samplers", "euler"), jax.random.key(3)

    def once():
        return generate.generate(model, objective, euler, text=clips.text, mask=clips.mask, shape=case.latents,
                                 steps=case.steps, guidance=GUIDANCE, key=key)

    def do(count):
        for _ in range(count):
            x = once()
        return float(x.sum())

    def program():
        graph, params = nnx.split(model)
        return generate.run.lower(
            params, clips.text, clips.mask, None, key, jnp.float32(GUIDANCE), jnp.float32(1), None, None, graph=graph,
            objective=objective, sample=euler.sample, shape=case.latents, steps=case.steps, guided=True,
            grid="shifted", eta=0.0, rule=generate.PLAIN, guide_graph=None, known_noise=0.0, lag=0,
            within=None).compile().as_text()
    return do, lambda: np.asarray(model.tokenise(once())[0]).ravel()[::THIN].tolist(), program


def facts_of(case: Case) -> dict:
    """What else the torch side is told."""
    from sora_jax.train import ema
    config = config_of(case)
    rule = config.optimizer
    return {"depth": case.depth, "heads": case.heads, "time_width": 256, "classes": CLASSES, "guidance": GUIDANCE,
            "drop": config.objective.caption_drop, "lr": rule.lr, "beta1": rule.beta1, "beta2": rule.beta2,
            "eps": rule.eps, "clip": rule.clip, "gamma": ema.gamma(config.ema.horizon), "thin": THIN}


def serve() -> None:
    """A side: a line `check`, `shares` or a count of updates or samples on stdin; a line of JSON back."""
    from launch import shares, torch_dit

    folder, case = Path(FOLDER.value), CASES[CHOSEN.value[0]]
    program = None
    if SIDE.value == "torch":
        import torch
        torch.set_num_threads(1 if CORE.value >= 0 else torch.get_num_threads())
        do, check = (torch_dit.sampler if case.steps else torch_dit.trainer)(folder, facts_of(case))
    else:
        do, check, program = jax_side(folder, case)
    print(json.dumps({}), flush=True)
    for line in sys.stdin:
        wall, own = time.perf_counter(), time.process_time()
        if line == "shares\n":
            answer = shares.shares(program(), case.tokens, do, case.turn, update=not case.steps)
        else:
            answer = check() if line == "check\n" else do(int(line))
        took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - own}
        print(json.dumps(took | {"answer": answer}), flush=True)


class Side:
    """A process that does turns when asked."""

    def __init__(self, name: str, folder: str, case: str):
        one = {"OMP_NUM_THREADS": "1"} if CORE.value >= 0 else {}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "launch.bench_dit", f"--side={name}", f"--folder={folder}", f"--cases={case}",
             f"--core={CORE.value}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **one, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"})
        self.heard()

    def heard(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a side of the benchmark ended with code {self.process.wait()}; its error is above")
        return json.loads(line)

    def do(self, what) -> dict:
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return self.heard()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def compare(name: str, folder: str) -> dict:
    """One row. Raises RuntimeError if the sides are not one function."""
    case, clock = CASES[name], "cpu" if CPU.value else "wall"
    here, there = Side("jax", folder, name), Side("torch", folder, name)
    first, answers = here.do("check"), there.do("check")["answer"]
    apart = max(abs(a - b) for a, b in zip(first["answer"], answers, strict=True)) / max(map(abs, answers))
    if not apart < SAME["sample" if case.steps else "update"]:
        raise RuntimeError(f"{name}: the answers are {apart:.1e} apart: {first['answer'][:3]} and {answers[:3]}")
    turns = [[side.do(case.turn)[clock] / case.turn for side in (there, here)] for _ in range(1 + ROUNDS.value)][1:]
    row = {"case": name, "clock": clock, "ratio": statistics.median(a / b for a, b in turns), "wanted": case.wanted,
           "apart": apart, "first_seconds": first[clock], "turns": turns,
           **{f"{side}_seconds": statistics.median(times)
              for side, times in zip(("torch", "jax"), zip(*turns, strict=True), strict=True)}}
    if SHARES.value:
        row["shares"] = here.do("shares")["answer"]
    here.close(), there.close()
    return row


def run() -> None:
    """The door."""
    import importlib.util

    from sora_jax.types import ConfigError

    unknown = [name for name in CHOSEN.value if name not in CASES]
    if unknown or not CHOSEN.value:
        raise ConfigError(f"--cases: no case {', '.join(unknown) or 'given'}; there are {', '.join(CASES)}")
    if importlib.util.find_spec("torch") is None:
        raise ConfigError("launch.bench_dit needs torch: pip install -e '.[parity]'")
    if CORE.value >= 0:
        os.sched_setaffinity(0, {CORE.value})
    if SIDE.value:
        return serve()
    rows = []
    print(f"{'case':14}{'torch s':>10}{'jax s':>10}{'ratio':>8}{'wanted':>8}{'apart':>10}{'first s':>9}", flush=True)
    for name in CHOSEN.value:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(row := compare(name, folder))
        print(f"{name:14}{row['torch_seconds']:10.4f}{row['jax_seconds']:10.4f}{row['ratio']:8.2f}"
              f"{row['wanted']:8.2f}{row['apart']:10.1e}{row['first_seconds']:9.1f}", flush=True)
        for part, share in row.get("shares", {}).items():
            print(f"    {part:20}{100 * share:6.1f} %", flush=True)
    if OUT.value:
        Path(OUT.value).write_text(json.dumps(rows, indent=1) + "\n")
    return None


if __name__ == "__main__":
    door.main(run)
