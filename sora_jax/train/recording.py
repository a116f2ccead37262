"""What a run leaves behind: its config, one record per annealed point, EMA weights, and pictures of what it learned."""
import json
import math
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from sora_jax import adapted, build, disk, judge, pipeline, sources, video, weights
from sora_jax.scaling import figure, identity
from sora_jax.scaling import records as ledger
from sora_jax.train import evaluating, widths
from sora_jax.train.state import TrainState, kept
from sora_jax.types import InputError

FLOPS_VERSION = 1
RECORDS = "records.jsonl"
PACKAGES = ("jax", "flax", "optax", "numpy")


def describe(config: ConfigDict, folder: Path) -> None:
    """Write config.json; a folder that holds a config of another id is refused, naming the fields that differ."""
    path, text = folder / "config.json", build.to_json(config)
    saved = json.loads(path.read_text()) if path.exists() else json.loads(text)
    if identity.run_id(saved) != identity.run_id(config.to_dict()):
        old, new = _flat(saved), _flat(json.loads(text))
        changed = [f"{k}: {old.get(k)} → {new.get(k)}" for k in sorted({**old, **new}) if old.get(k) != new.get(k)]
        raise InputError(f"{folder} holds a run of another config ({'; '.join(changed[:4])}); use another --workdir")
    disk.write(path, text.encode())


def _flat(tree: dict, prefix: str = "") -> dict:
    return {k: v for key, value in tree.items()
            for k, v in (_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}).items()}


def name_of(config: ConfigDict, end: int) -> str:
    """The id of the record of the annealed point at update `end`."""
    return f"{identity.run_id(config.to_dict())}-{end}"


def records(folder: Path) -> list[dict]:
    """The records written so far."""
    path = folder / RECORDS
    return ledger.read(path) if path.exists() else []


def finished(folder: Path, config: ConfigDict, ends: Sequence[int]) -> bool:
    """Whether every annealed point of the run is recorded."""
    return all(done(folder, config, end) for end in ends)


def done(folder: Path, config: ConfigDict, end: int) -> bool:
    """Whether the annealed point at update `end` is recorded."""
    return any(record["id"] == name_of(config, end) for record in records(folder))


def commit() -> str:
    """The commit of the code, with "+" if the tree had changes; "unknown" outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    try:
        show = [["git", "rev-parse", "--short=12", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"]]
        head, dirty = (subprocess.run(c, cwd=root, capture_output=True, text=True, check=True).stdout for c in show)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.strip() + ("+" if dirty.strip() else "")


def environment(company: int = 1) -> dict:
    """Versions and machine, for the record; and how many runs were trained in one program, if more than one."""
    return {**({"population": company} if company > 1 else {}),
            "python": platform.python_version(), "machine": platform.machine(), "cpus": os.cpu_count(),
            **{name: metadata.version(name) for name in PACKAGES}}


def finish(job, state: TrainState, stop) -> dict:
    """Measure an annealed state and write its weights, pictures and record, in that order."""
    config, last = job.config, stop.end == job.steps
    ema = job.whole(state.ema)
    if config.stage == "vae":
        ema = evaluating.with_statistics(ema, *evaluating.statistics(job.graph, ema, sources.whole_clips(config)))
    measured = job.evaluation.measure(ema) | job.evaluation.matched(ema) | motion(job, ema)
    if config.stage == "vae":
        measured |= job.evaluation.coded(ema)
    record = compose(job, stop, measured, job.evaluation.measure(job.whole(kept(state.params)))["val_loss"])
    job.fence()
    meta = {"id": record["id"], "config": json.loads(build.to_json(config)), "record": record,
            **job.origin}
    name = "weights" if last else f"weights-{record['clips']}"
    weights.save_weights(job.folder / f"{name}.safetensors", ema, meta)
    if job.frozen:
        weights.save_weights(job.folder / f"{name.replace('weights', 'adapters')}.safetensors", state.ema, meta)
    if last:
        pictures(job, ema)
    job.writer.resume(stop.end - 1, "annealed")
    job.writer.write_scalars(stop.end, {k: v for k, v in measured.items() if isinstance(v, float)}, "annealed/")
    job.writer.flush()
    job.fence()
    ledger.append(job.folder / RECORDS, record)
    return record


def motion(job, ema) -> dict[str, float]:
    """Velocity errors of these weights, if `eval.velocity` asks for clips; what no clip showed is left out."""
    clips = build.velocity_clips(job.config)
    if not clips:
        return {}
    drawn = pipeline.Pipeline(job.config, nnx.merge(job.graph, nnx.State(ema)), job.coder, None)
    found = judge.motion(drawn, clips, batch=clips)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def compose(job, stop, measured: dict, raw: float) -> dict:
    """The record of one annealed point: every count, exact FLOPs, seeds, device, commit and config hash."""
    config, counts = job.config, build.param_counts(job.config)
    clips, tokens = stop.end * config.train.batch, build.tokens_per_clip(config)
    images = clips * build.images_per_clip(config)
    image_tokens = images and images * build.tokens_per_clip(build.one_frame(config))
    packed = {}
    if build.row(config)[0]:  # what was counted so far is rows
        packed = {"rows": clips, "useful_tokens": job.source.useful}
        clips = round(clips * job.source.clips_per_row)
        tokens = packed["rows"] * build.row(config)[0] * job.source.useful / clips
    name, total = name_of(config, job.steps), sum(counts.values())
    rule = {"base_width": base} if (base := widths.base(config.optimizer)) else {}
    if rank := build.lora_rank(config):
        rule |= {"lora_rank": rank, "trained": adapted.count(config)}
    return {
        "id": name_of(config, stop.end), "experiment": config.name, "config_hash": identity.run_id(config.to_dict()),
        "model": config.model.size if config.stage == "dit" else config.vae.name,
        "width": config.model.width if config.stage == "dit" else max(config.vae.decoder),
        "depth": config.model.depth if config.stage == "dit" else len(config.vae.decoder),
        "n_core": counts.get("n_core", total), "n_total": total, "params": counts, "tokens_per_clip": round(tokens),
        "clips": clips, "images": images, "tokens": round(clips * tokens) + image_tokens,
        "latent_elements": round(clips * tokens * np.prod(config.model.patch) * config.vae.channels) if packed
                           else clips * int(np.prod(build.latent_shape(config))),
        "flops": 3 * sum(build.forward_flops(config).values()) * stop.end * config.train.batch,
        "flops_version": FLOPS_VERSION,
        "steps": stop.end, "batch": config.train.batch, "annealed": True, "seed": config.seed,
        "lr": config.optimizer.lr, "val_loss": measured["val_loss"], "val_loss_se": measured.get("val_loss_se"),
        "val_loss_raw": raw, "val_bins": measured.get("val_bins", []),
        "branch_of": None if stop.end == job.steps else name, "cooldown_fraction": config.optimizer.cooldown,
        "ema_horizon": config.ema.horizon, "device": jax.devices()[0].device_kind, "dtype": config.dtype,
        "started_from": job.begin and job.begin[1].get("id", "unrecorded weights"),
        "train_seconds": job.seconds, "commit": job.commit, "environment": environment(job.company),
        "metrics": {k: v for k, v in measured.items() if not k.startswith("val_")} | rule | packed,
    }


def pictures(job, ema) -> None:
    """The loss curve, and for an autoencoder originals above reconstructions."""
    phases = ("checkpoints/", f"branch-{job.steps}/")
    rows = [{name.removeprefix(phases[0]).removeprefix(phases[1]): value for name, value in row.items()}
            for row in job.writer.rows() if any(name.startswith(phases) for name in row)]
    figure.training_curve(rows, job.folder / "curve.png", job.config.name)
    if job.config.stage == "vae":
        clips = job.evaluation.held[:8]
        back = np.asarray(job.evaluation.reconstruct(ema, clips))
        pairs = [clip for pair in zip(clips, back, strict=True) for clip in pair]
        job.writer.write_image("reconstructions", job.steps, video.contact_sheet(pairs))
