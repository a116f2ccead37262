"""The whole chain in seconds: `--config=configs/smoke.py:vae`, encode, then `--config=configs/smoke.py:dit`.

Too small to learn anything; for tests and for trying a machine.
"""
from ml_collections import ConfigDict

from configs import base


def get_config(stage: str = "vae") -> ConfigDict:
    """The smallest run of a stage, "vae" or "dit", with one cooldown branch at half of its clips."""
    if stage not in ("vae", "dit"):
        raise ValueError(f"no stage {stage!r}; there are vae, dit")
    config = base.get_config()
    config.name, config.stage = f"smoke-{stage}", stage
    config.data.frames, config.data.height, config.data.width = 5, 32, 32
    config.data.families, config.data.weights = ("uniform",), (1.0,)
    config.vae.weights = "runs/smoke-vae"
    config.vae.time, config.vae.space, config.vae.channels = (2,), (2,), 4
    config.vae.encoder = config.vae.decoder = (8, 8)
    config.model.size, config.model.width, config.model.depth, config.model.heads = "smoke", 16, 2, 2
    config.text.width, config.text.depth, config.text.heads, config.text.length = 16, 1, 2, 48
    config.sampler.steps = 4
    config.train.clips, config.train.batch, config.train.branches = 320, 8, (0.5,)
    config.train.log, config.train.evaluate, config.train.save = 0.05, 0.5, 0.1
    config.eval.clips, config.eval.times = 16, 4
    if stage == "vae":
        config.data.crop, config.data.crop_frames = 16, 3
        config.objective = ConfigDict({"name": "vae", "kind": "l1l2", "kl": 1e-5, "perceptual_weight": 0.0,
                                       "temporal_weight": 0.0, "critic_weight": 0.0, "perceptual_from": 0.0,
                                       "temporal_from": 0.0, "critic_from": 0.0, "critic_lead": 0.05})
        config.eval.clips = 8
    else:
        config.data.name, config.data.path = "latents", "runs/smoke-latents"
        config.optimizer.muon = 8.0
    return config
