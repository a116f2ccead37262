"""Three ways to go on from the sharp autoencoder: as before, with a feature distance, and with a critic as well."""
from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import vae


def run(name: str, perceptual: float, critic: float) -> ConfigDict:
    """Another 9,600 windows from the weights of 006 on; what is added weighs from a tenth of them on."""
    config = vae.get_config()
    config.name = name
    config.train.start = "experiments/006_sharp_autoencoder"
    config.train.clips = 9_600
    config.train.evaluate, config.train.log, config.train.save = 0.1, 0.01, 0.1
    config.optimizer.lr, config.optimizer.muon, config.optimizer.cooldown = 1e-3, 6.0, 0.4
    config.objective.perceptual_weight, config.objective.critic_weight = perceptual, critic
    config.objective.perceptual_from = config.objective.critic_from = 0.1
    config.objective.critic_lead = 0.1
    return config


def runs() -> Iterator[ConfigDict]:
    """The control first; the last one's weights are committed."""
    yield run("vae-on", 0.0, 0.0)
    yield run("vae-features", 0.05, 0.0)
    yield run("vae-critic", 0.05, 0.1)
