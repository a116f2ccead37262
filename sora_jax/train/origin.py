"""What a transformer is trained on, by hash: the autoencoder of its latents, the encoder of its captions' states. A run
keeps to them, and so does whoever goes on from it."""
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from sora_jax import states
from sora_jax.types import InputError

FIELDS = {"vae_hash": ("latents of autoencoder", "data.path"),
          "text_hash": ("caption states of encoder", "data.states")}


def origin(config: ConfigDict, meta: Mapping[str, Any]) -> dict[str, str]:
    """The hashes of a run whose source has this `meta`; none for an autoencoder. Raises InputError as `states.load`."""
    if config.stage != "dit":
        return {}
    folder = config.data.get("states", "")
    return {"vae_hash": meta["vae_hash"]} | ({"text_hash": states.load(folder).hash} if folder else {})


def check(have: Mapping[str, Any], want: Mapping[str, Any], whose: str) -> None:
    """InputError unless `whose` header names the origin that is read now."""
    for name, (what, field) in FIELDS.items():
        if have.get(name) != want.get(name):
            raise InputError(f"{whose} was trained on {what} {have.get(name, 'none')}, {field} holds those of "
                             f"{want.get(name, 'none')}; put back what it was trained on")
