"""The autoencoder of 000 again, with Muon and more windows."""
from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import vae


def sharp() -> ConfigDict:
    """The autoencoder of 000, on two and a half times the windows, with Muon on its kernels."""
    config = vae.get_config()
    config.name = "vae-sharp"
    config.optimizer.muon = 6.0
    config.train.clips = 96_000
    config.train.evaluate, config.train.save = 0.05, 0.05
    return config


def runs() -> Iterator[ConfigDict]:
    """The run that is committed."""
    yield sharp()
