"""The diffusion transformer on cached latents: `--config=configs/dit.py:w128d6` picks a row of the ladder."""
from ml_collections import ConfigDict

from configs import base, ladder


def get_config(size: str = "w64d4") -> ConfigDict:
    """A run of the given size on the latents that `launch.encode --out=runs/latents` made."""
    config = base.get_config()
    config.name = f"dit-{size}"
    config.data.name = "latents"
    config.data.path = "runs/latents"
    return ladder.resize(config, size)
