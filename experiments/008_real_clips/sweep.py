"""Two stages: the physics autoencoder goes on with on the first halves of three real films, in short windows, then in
windows as long as a clip."""
from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import films


def runs() -> Iterator[ConfigDict]:
    """The stages of configs/films.py; the second begins with what the first came to."""
    yield films.get_config()
    yield films.long("runs/008_real_clips/films")
