"""A config that cannot run is one line that names the field and the cure, before anything compiles or is written."""
import itertools
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs import smoke
from sora_jax import build, validation
from sora_jax.datasets import latents
from sora_jax.train import loop
from sora_jax.types import Batch, ConfigError, InputError

ROOT = Path(__file__).resolve().parents[1]
COMPILED = []
CONSTANTS = ("jit(convert_element_type)", "jit(broadcast_in_dim)")


@jax.monitoring.register_event_duration_secs_listener
def noted(name, seconds, fun_name="", **_):
    """Every compilation of this process, but for those that only make a constant."""
    if name.endswith("backend_compile_duration") and fun_name not in CONSTANTS:
        COMPILED.append(fun_name)


def changed(stage, fields):
    config = smoke.get_config(stage)
    config.update_from_flattened_dict(fields)
    return config


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Latents as the smoke config describes them, 16 clips a split."""
    folder, rng = tmp_path_factory.mktemp("latents"), np.random.default_rng(0)
    config = smoke.get_config("dit")
    data = {"name": "physics", "height": config.data.height, "width": config.data.width}
    shape, length = build.latent_shape(config), config.text.length
    for split in ("train", "val"):
        chunk = latents.Chunk(rng.normal(size=(16, *shape)).astype(np.float32), np.ones((16, 1, length), np.uint8),
                              np.ones((16, 1, length), bool), [["a caption"]] * 16)
        latents.write(folder / split, [lambda chunk=chunk: chunk], {"vae_hash": "abc", "data": data, "dtype": "float32",
                                                                     "fps": config.data.fps})
    return folder


BAD = [
    ("vae", {"stage": "vea"}, "stage='vea' is not one of vae, dit"),
    ("vae", {"vae.name": "video_vea"}, "models has no 'video_vea'; did you mean 'video_vae'?"),
    ("dit", {"model.name": "dot"}, "models has no 'dot'; did you mean 'dit'?"),
    ("dit", {"objective.name": "flw"}, "objectives has no 'flw'; did you mean 'flow'?"),
    ("dit", {"sampler.name": "hun"}, "samplers has no 'hun'; did you mean 'heun'?"),
    ("vae", {"data.name": "physic"}, "datasets has no 'physic'; did you mean 'physics'?"),
    ("dit", {"objective.name": "vae"}, "objective.name='vae' does not train stage='dit'; use ddpm, edm, flow"),
    ("dit", {"data.name": "physics"}, "data.name='physics' does not feed stage='dit': .* launch.encode"),
    ("vae", {"data.name": "latents"}, "data.name='latents' does not feed stage='vae'"),
    ("dit", {"model.patch": (1, 3, 2)}, r"model.patch=\(1, 3, 2\) .* 4 rows is not a multiple of 3; change"),
    ("dit", {"model.patch": (2, 2, 2)}, "3 frames is not a multiple of 2"),
    ("dit", {"model.patch": (2, 2)}, r"model.patch=\(2, 2\) must be three sizes"),
    ("dit", {"model.patch": (1, 0, 2)}, r"model.patch=\(1, 0, 2\) must be positive"),
    ("dit", {"model.width": 18, "model.heads": 4}, "model.width=18 with model.heads=4 gives heads of 4.5; choose"),
    ("dit", {"model.depth": -1}, "model.depth=-1 must be positive"),
    ("dit", {"model.remat": "some"}, "model.remat='some' is not one of none, full, dots"),
    ("dit", {"dtype": "float8"}, "dtype='float8' is not one of float32, bfloat16"),
    ("vae", {"dtype": "bfloat16"}, "dtype='bfloat16': the autoencoder computes in float32"),
    ("dit", {"text.width": 15, "text.heads": 3}, "text.width=15 must be even"),
    ("dit", {"text.pool": 5}, "text.length=48 is not a multiple of text.pool=5"),
    ("dit", {"text.length": 0}, "text.length=0 must be positive"),
    ("dit", {"mesh.data": 16}, "mesh.data=16 needs 16 devices, 8 found: make an axis smaller, or -1"),
    ("dit", {"mesh.data": 4, "mesh.fsdp": 4}, "mesh.data=4, mesh.fsdp=4 needs 16 devices, 8 found"),
    ("dit", {"mesh.fsdp": 0}, "mesh.fsdp=0 is not a size"),
    ("dit", {"mesh.data": 3}, "train.batch=8 is not a multiple of mesh.data × mesh.fsdp = 3"),
    ("vae", {"data.frames": 4}, r"data.frames=4: the VAE needs 1 \+ 2k frames; use 5"),
    ("vae", {"data.height": 30}, "data.height=30 is not a multiple of the VAE's 8; use 32"),
    ("vae", {"data.width": 35}, "data.width=35 is not a multiple of the VAE's 8; use 32"),
    ("dit", {"data.width": 35}, "data.width=35 is not a multiple of the VAE's 8; use 32"),
    ("vae", {"data.crop": 15}, "data.crop=15 is not a multiple of the VAE's 8; use 16"),
    ("vae", {"data.crop_frames": 4}, r"data.crop_frames=4: the VAE needs 1 \+ 2k frames; use 5"),
    ("vae", {"data.crop": 64}, r"data.crop=64: windows of \(3, 64, 64\) do not fit into clips of \(5, 32, 32\)"),
    ("vae", {"data.families": ("uniform", "juggling"), "data.weights": (1.0, 1.0)}, "juggling"),
    ("vae", {"data.weights": (1.0, 2.0)}, "weights"),
    ("vae", {"data.language": "fr"}, "language='fr' is not one of en, zh, both"),
    ("vae", {"data.fps": 0.0}, "data.fps=0.0 must be positive"),
    ("vae", {"vae.time": (2, 2)}, "vae.encoder=.* need one width per stage"),
    ("vae", {"vae.conv": "fast"}, "vae.conv='fast' is not one of auto, native, taps"),
    ("vae", {"vae.channels": 0}, "vae.channels=0 must be positive"),
    ("vae", {"train.batch": 0}, "train.batch=0 must be positive"),
    ("vae", {"train.clips": 8}, "optimizer.cooldown=0.2 of the 1 updates to an annealed point is none; give more"),
    ("vae", {"train.branches": (0.5, 1.5)}, r"train.branches=\(0.5, 1.5\) must be fractions between 0 and 1"),
    ("vae", {"train.branches": (0.01,)}, "is none; .* later train.branches"),
    ("vae", {"optimizer.shape": "cosine"}, "optimizer.shape='cosine' is not a cooldown; choose one of linear, 1-sqrt"),
    ("vae", {"optimizer.lr": float("nan")}, "optimizer.lr=nan over 40 steps cannot train"),
    ("vae", {"optimizer.warmup": 0.5}, "starts inside the warm-up of 20 updates; lower optimizer.warmup"),
    ("vae", {"optimizer.beta2": 1.0}, "optimizer.beta2=1.0"),
    ("vae", {"ema.horizon": 0.5}, "ema.horizon=0.5"),
    ("vae", {"objective.kind": "l3"}, "objective.kind='l3' is not one of l1, l2, l1l2"),
    ("dit", {"objective.known": (1.0,)}, r"objective.known=\(1.0,\) must be 6 probabilities"),
    ("vae", {"seed": -1}, "seed=-1"),
    ("dit", {"eval.clips": 17}, "eval.clips=17 but .* holds 16; encode more or ask less"),
    ("dit", {"data.path": "nowhere"}, "no latents in .*nowhere.*; make them with python -m launch.encode"),
    ("dit", {"data.frames": 9}, r"latents in .* are \(3, 4, 4, 4\), but data.frames, .* make \(5, 4, 4, 4\)"),
    ("dit", {"vae.channels": 8}, r"latents in .* are \(3, 4, 4, 4\), but .* make \(3, 4, 4, 8\)"),
    ("dit", {"data.fps": 24.0}, "data.fps=24, but the latents in .* are of clips at 8; set it to that"),
    ("dit", {"data.aspect": 2.0}, "data.aspect=2: a world 2 times as wide as high, the .* of one of 1; set it to that"),
    ("dit", {"text.length": 96}, "text.length=96, but the captions in .* have 48 bytes; set it to that"),
]


@pytest.mark.parametrize("stage, fields, words", BAD, ids=[f"{stage}-{next(iter(f))}" for stage, f, _ in BAD])
def test_a_config_that_cannot_run_is_one_line(tmp_path, cache, stage, fields, words):
    config = changed(stage, {"data.path": str(cache), **fields} if stage == "dit" else fields)
    COMPILED.clear()
    with pytest.raises((ConfigError, InputError)) as caught:
        loop.run(config, tmp_path)
    assert re.search(words, str(caught.value)) and "\n" not in str(caught.value), caught.value
    assert not COMPILED, "compiled before the error"
    assert not (tmp_path / "config.json").exists(), "a refused config would refuse the one that mends it"


def test_compiling_is_noticed():
    COMPILED.clear()
    jax.jit(lambda x: x * 3.25 + np.pi)(jnp.ones(7))
    assert COMPILED


def test_a_refused_run_leaves_no_folder(tmp_path):
    with pytest.raises(ConfigError, match="train.batch=0"):
        loop.run(changed("vae", {"train.batch": 0}), tmp_path / "run")
    assert not list(tmp_path.iterdir())


def traced(config):
    """Shapes of the training loss of this config: an error here is one that jax would have raised."""
    graph, shapes = build.graph(config)
    objective, length = build.objective(config), config.text.length
    clip = (*build.clip_shape(config), 3) if config.stage == "vae" else build.latent_shape(config)
    shape = [((2, *clip), jnp.uint8 if config.stage == "vae" else jnp.float32), ((2, length), jnp.uint8)]
    batch = Batch(*(jax.ShapeDtypeStruct(*leaf) for leaf in (*shape, ((2, length), jnp.bool_))))

    def loss(params, batch):
        return objective.loss(nnx.merge(graph, nnx.State(params)), batch, jax.random.key(0))[0]

    return jax.eval_shape(loss, shapes, batch)


GRID = {
    "data.frames": (1, 3, 4, 5, 9), "data.height": (8, 16, 24, 32, 36), "data.width": (16, 32, 48),
    "vae.time": ((1,), (2,), (4,)), "vae.space": ((1,), (2,), (4,)), "vae.patch": (2, 4), "vae.channels": (1, 3, 4),
    "model.patch": ((1, 1, 1), (1, 2, 2), (2, 2, 2), (1, 4, 2), (3, 1, 1)), "model.width": (2, 6, 12, 16, 20),
    "model.heads": (1, 2, 3, 4), "text.width": (8, 9, 12), "text.heads": (1, 2, 3), "text.pool": (1, 4, 5, 48),
    "dtype": ("float32", "bfloat16"), "mesh.data": (1, 2, 3, -1), "mesh.fsdp": (1, 2, 8), "train.batch": (6, 8),
    "data.crop": (0, 8, 12, 16), "data.crop_frames": (0, 1, 3, 5),
}


def draws(stage, count, seed):
    """Random corners of the grid; most fields keep what runs, so that refusals and runs both come up."""
    rng = random.Random(seed)
    for _ in range(count):
        yield changed(stage, {name: rng.choice(values) for name, values in GRID.items() if rng.random() < 0.3})


@pytest.mark.parametrize("stage, enough", [("vae", 5), ("dit", 5)])
def test_what_is_not_refused_can_be_traced(stage, enough):
    """Never a shape error from inside jax: a config is refused with its arithmetic, or its loss has a shape."""
    refused, ran = 0, 0
    for config in itertools.islice(draws(stage, 10_000, seed=0), 10 * enough):
        try:
            validation.validate(config)
        except ConfigError as error:
            refused += 1
            assert re.search(r"\w+\.\w+=|dtype=", str(error)) and "\n" not in str(error), error
        else:
            if ran < enough:
                assert traced(config).shape == ()
                ran += 1
    assert refused >= enough and ran == enough


@pytest.mark.parametrize("field, near", [("train.clip", "train.clips"), ("modle.width", "model.width")])
def test_a_mistyped_field_is_one_line_at_the_door(tmp_path, field, near):
    command = [sys.executable, "-m", "launch.train", "--config=configs/smoke.py:vae", f"--config.{field}=3",
               f"--workdir={tmp_path / 'run'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
                          env={**os.environ, "JAX_PLATFORMS": "cpu"})
    assert done.returncode == 2 and not done.stdout and not list(tmp_path.iterdir())
    assert done.stderr == f"error: no field config.{field}; did you mean --config.{near}?\n"


def test_every_field_mistyped_is_refused_in_code():
    config = smoke.get_config("dit").lock()
    for part in config:
        for name in config[part] if hasattr(config[part], "keys") else ():
            with pytest.raises((KeyError, AttributeError)):
                setattr(config[part], f"{name}z", 1)


def test_weights_that_do_not_fit_the_config_are_named():
    config = smoke.get_config("vae")
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), build.graph(config)[1])
    assert build.model(config, params).mean[...].shape == (4,)
    short = {**params, "mean": np.zeros(3, np.float32)}
    with pytest.raises(ConfigError, match=r"weight mean is \(3,\), the config asks for \(4,\)"):
        build.model(config, short)
    with pytest.raises(ConfigError, match="weight std is missing from the weights"):
        build.model(config, {k: v for k, v in params.items() if k != "std"})
    with pytest.raises(ConfigError, match="weight median is not in the model"):
        build.model(config, {**params, "median": params["mean"]})
