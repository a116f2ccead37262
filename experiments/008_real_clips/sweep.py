"""One run: the physics autoencoder, gone on with on the first halves of three real films."""
from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import films


def runs() -> Iterator[ConfigDict]:
    """The autoencoder of configs/films.py."""
    yield films.get_config()
