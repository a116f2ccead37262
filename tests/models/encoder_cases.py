"""Published encoders with drawn weights, and what transformers says of them.

`python tests/models/encoder_cases.py` writes the answers to encoder_reference.npz (needs pip install -e ".[parity]").
Weights and inputs are drawn here from names and seeds, so the file holds names, shapes and answers only.
"""
import functools
import json
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import numpy as safetensors
from safetensors import safe_open
from stored import Reference
from wan_cases import draw, largest  # noqa: F401

REFERENCE = Reference(Path(__file__).with_name("encoder_reference.npz"))
shapes, reference = REFERENCE.shapes, REFERENCE.answers
CONFIG, WEIGHTS = "config.json", "model.safetensors"


class Case(NamedTuple):
    """A foreign class, fields of its config, and of the inputs: frames (0: captions), and tokens of a caption."""

    title: str
    given: dict
    frames: int = 0
    length: int = 0
    every: int = 1  # how many tokens and channels of long states are compared


def vit(**sizes) -> dict:
    return {"model_type": "vit", "hidden_act": "gelu", "qkv_bias": True, "layer_norm_eps": 1e-12, "num_channels": 3,
            **sizes}


def t5(kind: str, **sizes) -> dict:
    return {"model_type": kind, "feed_forward_proj": "gated-gelu", "layer_norm_epsilon": 1e-6, "vocab_size": 60,
            "d_model": 24, "d_kv": 10, "d_ff": 40, "num_layers": 3, "num_heads": 3, **sizes}


def clip(**sizes) -> dict:
    return {"model_type": "clip_text_model", "vocab_size": 60, "hidden_size": 32, "num_attention_heads": 4,
            "intermediate_size": 48, "num_hidden_layers": 3, "max_position_embeddings": 20, "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5, "bos_token_id": 58, "eos_token_id": 30, "pad_token_id": 1, "projection_dim": 12,
            **sizes}


LABELS = {"id2label": {str(k): f"LABEL_{k}" for k in range(10)}, "label2id": {f"LABEL_{k}": k for k in range(10)}}
BASE = {"image_size": 224, "patch_size": 16, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
CASES = {
    "vit, two layers of B/16": Case("ViTForImageClassification", vit(**BASE, num_hidden_layers=2, **LABELS), 1,
                                    every=13),
    "vit, oblong": Case("ViTForImageClassification", vit(
        image_size=[16, 48], patch_size=[4, 8], hidden_size=24, num_attention_heads=3, intermediate_size=40,
        num_hidden_layers=3, **LABELS), 2),
    "vit, pooler": Case("ViTModel", vit(image_size=12, patch_size=4, hidden_size=16, num_attention_heads=2,
                                        intermediate_size=24, num_hidden_layers=2), 2),
    "t5": Case("T5EncoderModel", t5("t5", relative_attention_num_buckets=32, relative_attention_max_distance=128),
               length=150, every=3),
    "umt5": Case("UMT5EncoderModel", t5("umt5", relative_attention_num_buckets=16, relative_attention_max_distance=24),
                 length=40),
    "clip": Case("CLIPTextModel", clip(), length=20),
    "clip, old": Case("CLIPTextModel", clip(eos_token_id=2, hidden_act="gelu"), length=15),
    "clip, projection": Case("CLIPTextModelWithProjection", clip(), length=20),
}


def weight(name: str, shape) -> np.ndarray:
    """A weight that keeps signals and scores of order one."""
    made = draw(name, shape)
    if len(shape) == 1:
        return 0.1 * made + ("norm" in name and name.endswith("weight"))
    if "relative" in name or "shared" in name or "embedding." in name or "_embeddings" in name[-20:]:
        return made
    quiet = 24**-0.25 if "SelfAttention.q" in name or "SelfAttention.k" in name else 1.0
    return quiet * made * float(np.prod(shape[1:])) ** -0.5


def inputs(name: str) -> dict[str, np.ndarray]:
    """Frames `b h w 3` in [-1, 1], or tokens `b l` with their mask: a short caption and a full one. What ends them is
    not the largest number in them, unless the config is of those that mean the largest."""
    case = CASES[name]
    if case.frames:
        size = case.given["image_size"]
        high, wide = size if isinstance(size, list) else (size, size)
        return {"frames": np.clip(0.5 * draw("frames", (case.frames, high, wide, 3)), -1, 1)}
    tokens = (np.abs(1e3 * draw("tokens", (2, case.length))).astype(np.int32) % 56) + 3
    end = case.given.get("eos_token_id", 59)
    end = 59 if end == 2 else end
    tokens = np.where(tokens == end, 3, tokens)
    tokens[0, case.length // 2], tokens[1, -1] = end, end
    mask = np.ones(tokens.shape, bool)
    mask[0, case.length // 2 + 1:] = False
    return {"tokens": np.where(mask, tokens, 1), "mask": mask}


def write(name: str, folder: Path, named: dict[str, tuple[int, ...]]) -> None:
    """A case as the folder that transformers would have written."""
    (folder / CONFIG).write_text(json.dumps(CASES[name].given))
    stored = {key: np.ascontiguousarray(weight(key, shape)) for key, shape in named.items()}
    (folder / WEIGHTS).write_bytes(safetensors.save(stored, metadata={"format": "pt"}))


@functools.lru_cache
def ours(name: str):
    """The encoder of this package with the weights of a case, through the bridge."""
    from sora_jax import bridge

    with tempfile.TemporaryDirectory() as folder:
        write(name, Path(folder), shapes(name))
        return bridge.load(folder)


def said(name: str) -> dict[str, np.ndarray]:
    """What ours says, under the names of the answers."""
    import jax
    import jax.numpy as jnp

    model = ours(name)
    given = [jnp.asarray(value) for value in inputs(name).values()]
    head = ("logits" if getattr(model, "head", None) else "embedded" if getattr(model, "project", None)
            else "pooled" if hasattr(model, "pooled") else "")
    ask = jax.jit(lambda model, *x: (model(*x), getattr(model, head)(*x) if head else None))
    states, end = ask(model, *given)
    made = {"states": states[:, ::CASES[name].every, ::CASES[name].every]} | ({head: end} if head else {})
    return {key: np.asarray(value) for key, value in made.items()}


def foreign(name: str, folder: Path):
    """transformers' model of a case, through a folder with drawn weights, and the shapes of what lies in the folder."""
    import torch
    import transformers

    torch.set_num_threads(1)
    kind = getattr(transformers, CASES[name].title)
    kind(kind.config_class(**CASES[name].given)).save_pretrained(folder)
    with safe_open(folder / WEIGHTS, framework="numpy") as file:
        named = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    write(name, folder, named)
    return loaded(name, folder), named


def loaded(name: str, folder: Path):
    """transformers' model of a folder; every weight must be found and used."""
    import transformers

    model, info = getattr(transformers, CASES[name].title).from_pretrained(folder, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return model.eval()


def answers(model, name: str) -> dict[str, np.ndarray]:
    """What transformers says, axes as here."""
    import torch

    given, every = inputs(name), CASES[name].every
    with torch.no_grad():
        if "frames" in given:
            frames = torch.from_numpy(np.ascontiguousarray(np.moveaxis(given["frames"], -1, 1)))
            found = model(frames, output_hidden_states=True)
            states = found.last_hidden_state if hasattr(found, "last_hidden_state") else (
                model.vit(frames).last_hidden_state)
        else:
            found = model(input_ids=torch.from_numpy(given["tokens"]).long(),
                          attention_mask=torch.from_numpy(given["mask"]).long())
            states = found.last_hidden_state
    made = {"states": states[:, ::every, ::every], "logits": getattr(found, "logits", None),
            "pooled": getattr(found, "pooler_output", None), "embedded": getattr(found, "text_embeds", None)}
    return {key: value.numpy() for key, value in made.items() if value is not None}


def cases():
    """(name, shapes, answers) of every case, as transformers has them."""
    for name in CASES:
        with tempfile.TemporaryDirectory() as folder:
            model, named = foreign(name, Path(folder))
        yield name, named, answers(model, name)


if __name__ == "__main__":
    REFERENCE.write(cases())
