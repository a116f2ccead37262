"""The text-to-video transformer of Wan 2.1 (arXiv 2503.20314, section 4.2) at its 1.3 B size, for
`launch.import_weights`. Captions are states of UMT5: sampling from it takes them (`Pipeline.latents`, text_states)."""
from ml_collections import ConfigDict

from configs import base, wan


def get_config() -> ConfigDict:
    """Thirty blocks of width 1536 on the latents of Wan's autoencoder, 81 frames of 480×832."""
    config = base.get_config()
    config.name = "wan-dit"
    config.data.name, config.data.path = "latents", "runs/wan_latents"
    config.data.frames, config.data.height, config.data.width, config.data.fps = 81, 480, 832, 16.0
    config.vae = wan.get_config().vae
    model = config.model
    model.size, model.width, model.depth, model.heads, model.hidden = "1.3B", 1536, 30, 12, 8960
    model.modulation, model.pooled, model.caption_mlp, model.cross_norm = "single", "none", True, True
    model.qk_norm, model.positions, model.rope_theta = "full", "rotary", 10_000.0
    config.text.name, config.text.width = "given", 4096
    config.text.length, config.text.pool, config.text.depth = 512, 1, 0
    config.sampler.name, config.sampler.steps, config.sampler.guidance, config.sampler.shift = "euler", 50, 5.0, 5.0
    config.optimizer.lr, config.optimizer.muon = 1e-4, 0.0
    return config
