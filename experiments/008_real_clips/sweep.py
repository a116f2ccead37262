"""Three stages: the physics autoencoder goes on with on the first halves of three real films, in short windows, then in
windows as long as a clip, then in crops of all sizes. And once more, by halves of shots."""
from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import films

RUNS = "runs/008_real_clips"


def runs() -> Iterator[ConfigDict]:
    """The stages of configs/films.py, each beginning with what the one before came to; the shots begin anew."""
    yield films.get_config()
    yield films.long(f"{RUNS}/films")
    yield films.zoom(f"{RUNS}/films-long")
    yield films.shots()
    yield films.whole_shots(f"{RUNS}/films-shots")
