"""Four compressions, and for each the channels that give the same latent sizes: fourteen autoencoders."""
from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import vae

CHANNELS = {  # in a long clip 1/192, 1/96, 1/48 and 1/24 of the numbers of the pixels, at 4×8×8
    (4, 8): (4, 8, 16, 32),
    (4, 16): (16, 32, 64, 128),
    (2, 8): (4, 8, 16),
    (8, 8): (8, 16, 32),
}


def run(time: int, space: int, channels: int) -> ConfigDict:
    """One autoencoder, its stages as configs/vae.py has them for this compression."""
    config = vae.get_config(f"{time}x{space}x{space}")
    config.name = f"vae-{time}x{space}x{space}-z{channels}"
    config.vae.channels = channels
    config.optimizer.muon = 10.0
    config.train.clips = 6_400
    config.train.evaluate, config.train.log, config.train.save = 0.5, 0.02, 0.5
    return config


def runs() -> Iterator[ConfigDict]:
    """Every compression with its channels."""
    for (time, space), counts in CHANNELS.items():
        for channels in counts:
            yield run(time, space, channels)
