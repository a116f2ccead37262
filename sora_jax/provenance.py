"""What a transformer is trained on, by hash: the autoencoder of its latents, the encoder of its captions' states. A run
keeps to them, and so does whoever goes on from it."""
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from sora_jax import states
from sora_jax.types import InputError

FIELDS = {"vae_hash": ("latents of autoencoder", "data.path", "encode with its own autoencoder"),
          "text_hash": ("caption states of encoder", "data.states", "put back what its own encoder made")}


def of(config: ConfigDict, source) -> dict[str, str]:
    """The hashes of a run that reads this source; none for an autoencoder. Raises InputError as `states.load`."""
    if config.stage != "dit":
        return {}
    folder = config.data.get("states", "")
    return {"vae_hash": source.meta["vae_hash"]} | ({"text_hash": states.load(folder).hash} if folder else {})


def check(have: Mapping[str, Any], want: Mapping[str, Any], whose: str) -> None:
    """InputError if `whose` header names another encoder than that of what is read now. States that an earlier version
    did not note are anybody's."""
    for name, (what, field, cure) in FIELDS.items():
        if have.get(name) != want.get(name) and (name in have or name == "vae_hash"):
            raise InputError(f"{whose} was trained on {what} {have.get(name)}, {field} holds those of "
                             f"{want.get(name)}; {cure}")
