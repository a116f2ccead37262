"""The causal video autoencoder on the physics worlds: windows of 9×32×32 cut around the action."""
from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """The run of experiments/000_autoencoder."""
    config = base.get_config()
    config.name = "vae"
    config.stage = "vae"
    config.data.crop, config.data.crop_frames = 32, 9
    config.objective = ConfigDict({"name": "vae", "kind": "l1l2", "kl": 1e-5})
    config.objective.perceptual_weight = 0.0  # of a distance of features, whose weights python -m launch.features gets
    config.objective.temporal_weight = 0.0  # of the error of the change from frame to frame
    config.objective.critic_weight = 0.0  # of a critic of clips, times its adaptive weight
    config.objective.perceptual_from = config.objective.temporal_from = 0.0  # fraction of the run where a term starts
    config.objective.critic_from, config.objective.critic_lead = 0.0, 0.05  # the critic itself learns so much earlier
    config.optimizer.lr = 2e-3
    config.train.clips, config.train.batch = 40_000, 16
    config.eval.clips = 128
    return config
