"""Autoencoders of Wan's layout with drawn weights, and what diffusers says of them.

`python tests/models/wan_cases.py` writes the answers to wan_reference.npz (needs pip install -e ".[parity]"). Weights
and inputs are drawn here from names and seeds, so the file holds answers only.
"""
import functools
import json
import tempfile
import zlib
from pathlib import Path

import numpy as np
from safetensors import numpy as safetensors
from stored import Reference

REFERENCE = Path(__file__).with_name("wan_reference.npz")
shapes = Reference(REFERENCE).shapes
FRAMES = (1, 17)  # one chunk of diffusers, and five
CASES = {
    "published at width 8": {"base_dim": 8, "z_dim": 4, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2,
                             "temperal_downsample": [False, True, True]},
    "one stage of time": {"base_dim": 6, "z_dim": 3, "dim_mult": [1, 2], "num_res_blocks": 1,
                          "temperal_downsample": [True]},
    "unequal sides": {"base_dim": 4, "decoder_base_dim": 6, "z_dim": 4, "dim_mult": [1, 3, 2], "num_res_blocks": 1,
                      "temperal_downsample": [True, False]},
}


def draw(name: str, shape) -> np.ndarray:
    """Normal numbers that depend on a name."""
    return np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape).astype(np.float32)


def config(name: str) -> dict:
    """The foreign config of a case, with drawn statistics."""
    given, z = CASES[name], CASES[name]["z_dim"]
    return {"_class_name": "AutoencoderKLWan", **given, "latents_mean": draw("mean", z).tolist(),
            "latents_std": np.exp(0.3 * draw("std", z)).tolist()}


def weight(name: str, shape) -> np.ndarray:
    """A weight that keeps signals of order one: gains near one, pixels of which a few are clipped."""
    made = draw(name, shape)
    if name.endswith("gamma"):
        return 1 + 0.2 * made
    loud = 0.8 if name.startswith("decoder.conv_out") else 1.0
    return loud * made * (0.1 if len(shape) == 1 else float(np.prod(shape[1:])) ** -0.5)


def clip(frames: int) -> np.ndarray:
    """Pixels `1 f 16 16 3`."""
    return np.clip(0.5 * draw("clip", (1, 17, 16, 16, 3)), -1, 1)[:, :frames]


def latents(name: str, frames: int) -> np.ndarray:
    """Latents `1 fl hl wl z` that decode to so many frames of 16×16."""
    given = CASES[name]
    side, time = 16 // 2 ** len(given["temperal_downsample"]), 2 ** sum(given["temperal_downsample"])
    return draw("latents", (1, 1 + (frames - 1) // time, side, side, given["z_dim"]))


def write(name: str, folder: Path, named: dict[str, tuple[int, ...]]) -> None:
    """A case as the folder that diffusers would have written."""
    (folder / "config.json").write_text(json.dumps(config(name)))
    stored = {key: np.ascontiguousarray(weight(key, shape)) for key, shape in named.items()}
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(safetensors.save(stored))


def reference(name: str, frames: int) -> dict[str, np.ndarray]:
    """The answers to a case, as the reference has them."""
    with np.load(REFERENCE) as stored:
        return {key: stored[f"{name}/{frames}/{key}"] for key in ("mean", "logvar", "pixels")}


@functools.lru_cache
def ours(name: str):
    """(autoencoder of this package with the weights of a case, its config), through the bridge."""
    import jax

    from configs import wan
    from sora_jax import bridge, build

    with tempfile.TemporaryDirectory() as folder:
        write(name, Path(folder), shapes(name))
        opened = bridge.open_folder(folder, "diffusers-wan-vae", wan.get_config())
        return build.model(opened.config, jax.tree.map(jax.numpy.asarray, bridge.params(opened))), opened.config


def largest(a, b) -> float:
    """The largest difference, relative to the largest value."""
    return float(np.abs(a - b).max() / np.abs(b).max())


def foreign(name: str):
    """diffusers' model of a case, and the shapes of its weights."""
    import torch
    from diffusers import AutoencoderKLWan

    torch.set_num_threads(1)
    model = AutoencoderKLWan(**{key: value for key, value in config(name).items() if key[0] != "_"}).eval()
    named = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict({key: torch.from_numpy(weight(key, shape)) for key, shape in named.items()})
    return model, named


def answers(model, name: str, frames: int) -> dict[str, np.ndarray]:
    """Mean and log-variance of the clip and pixels of the latents, axes as here."""
    import torch

    def there(x):
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))

    with torch.no_grad():
        posterior = model.encode(there(clip(frames))).latent_dist
        made = {"mean": posterior.mean, "logvar": posterior.logvar,
                "pixels": model.decode(there(latents(name, frames))).sample}
    return {key: np.moveaxis(value.numpy(), 1, -1) for key, value in made.items()}


def main() -> None:
    """Writes the reference."""
    stored = {}
    for name in CASES:
        model, named = foreign(name)
        stored[f"{name}/shapes"] = np.array(json.dumps(named))
        for frames in FRAMES:
            found = answers(model, name, frames)
            print(name, frames, {key: f"{np.abs(value).max():.3f}" for key, value in found.items()},
                  f"clipped {(np.abs(found['pixels']) == 1).mean():.4f}")
            stored |= {f"{name}/{frames}/{key}": value for key, value in found.items()}
    np.savez_compressed(REFERENCE, **stored)


if __name__ == "__main__":
    main()
