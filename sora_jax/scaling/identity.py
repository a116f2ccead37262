"""The name of a run: a hash of every value of its config, whatever their order or spelling."""
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

# Fields that configs gained after runs were recorded. At these values they mean what their absence meant.
NEUTRAL = {"data.windows": 1, "data.span": [0, 1], "data.held_span": [], "data.cache": 2**28, "data.images": "",
           "data.counts": [1, 2, 2, 3], "data.colours": [], "eval.velocity": 0, "eval.matched": False,
           "train.images": 0, "data.native": [], "data.states": "", "data.aspect": 0,
           "train.pack_tokens": 0, "train.pack_clips": 8,
           "train.start": "",
           "optimizer.widths": "none", "optimizer.base_width": 96, "objective.perceptual_weight": 0,
           "objective.temporal_weight": 0, "objective.critic_weight": 0, "objective.perceptual_from": 0,
           "objective.temporal_from": 0, "objective.critic_from": 0, "objective.critic_lead": 0.05,
           "optimizer.critic": 1, "optimizer.critic_beta1": 0.5, "critic.name": "critic", "critic.patch": 4,
           "critic.width": 32, "critic.depth": 2, "vae.attention": 0, "vae.block": "2+1d", "model.hidden": 0,
           "model.mlp": "gelu", "model.modulation": "block", "model.text": "cross", "model.pooled": "linear",
           "model.caption_mlp": False, "model.cross_norm": False, "model.qk_norm": "head",
           "model.positions": "sincos+rotary", "model.rope_theta": 100, "model.attention": "full",
           "model.window": [2, 4, 4], "model.time_shift": 0, "model.time_ends": False, "model.variance": False,
           "objective.kind": "", "objective.weight": "none", "objective.gamma": 5, "objective.shift_tokens": 0,
           "objective.scale": 1.29, "objective.schedule": "linear", "objective.steps": 1000, "objective.beta_min": 1e-4,
           "objective.beta_max": 0.02, "objective.zero_terminal": False, "objective.p_mean": -0.507,
           "objective.p_std": 1.2, "objective.sigma_min": 0.004, "objective.sigma_max": 160, "objective.rho": 7,
           "sampler.grid": "shifted",
           "sampler.eta": 0, "sampler.interpolate": False,
           "sampler.guidance_known": 1, "sampler.rescale": 0, "sampler.interval": [0, 1],
           "sampler.zero_star": False, "sampler.zero_steps": 0, "objective.known_noise": 0, "objective.levels": "two",
           "sampler.known_noise": 0, "sampler.lag": 0,
           "lora.rank": 0, "lora.alpha": 8,
           "lora.targets": ["qkv", "out", "cross_q", "cross_kv", "cross_out", "up", "down"]}


def run_id(config: Mapping[str, Any]) -> str:
    """Twelve hex digits that depend on every value of a config, not on key order or number spelling: 1 is 1.0, a
    tuple is a list, True is not 1. A field of `NEUTRAL` at its neutral value counts as absent, and so does a
    section with no other. Raises TypeError naming a value it cannot spell."""
    plain = _canonical(config, "config")
    for path, neutral in NEUTRAL.items():
        section, name = path.split(".")
        inner = plain.get(section)
        if isinstance(inner, dict) and inner.get(name) == neutral:
            plain[section] = {key: value for key, value in inner.items() if key != name}
        if plain.get(section) == {}:
            del plain[section]
    text = json.dumps(plain, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _canonical(value: Any, where: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            return {"float": repr(value)}
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where}: key {key!r} is not a string")
        return {key: _canonical(inner, f"{where}.{key}") for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(inner, f"{where}[{k}]") for k, inner in enumerate(value)]
    raise TypeError(f"{where}: a {type(value).__name__} has no stable spelling; use numbers, strings, lists, dicts")
