"""One run: the autoencoder that every later experiment encodes with."""
from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import vae


def runs() -> Iterator[ConfigDict]:
    """The autoencoder of configs/vae.py."""
    yield vae.get_config()
