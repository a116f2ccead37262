"""The autoencoder of Wan 2.1 at its published size, for `launch.import_weights` and for training one like it."""
from ml_collections import ConfigDict

from configs import vae


def get_config() -> ConfigDict:
    """Four stages, 16 channels, 4×8×8."""
    config = vae.get_config()
    config.name = "wan"
    config.vae.name, config.vae.weights = "wan_vae", ""
    config.vae.patch, config.vae.time, config.vae.space = 1, (1, 2, 2), (2, 2, 2)
    config.vae.encoder = config.vae.decoder = (96, 192, 384, 384)
    config.vae.blocks = 2
    return config
