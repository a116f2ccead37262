"""Transformers of two published layouts with drawn weights, and what diffusers says of them.

`python tests/models/dit_cases.py` writes the answers to dit_reference.npz (needs pip install -e ".[parity]"). Weights
and inputs are drawn here from names and seeds, so the file holds names, shapes and answers only.
"""
import functools
import importlib
import json
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import numpy as safetensors
from stored import Reference
from wan_cases import draw, largest  # noqa: F401

REFERENCE = Reference(Path(__file__).with_name("dit_reference.npz"))
shapes, reference = REFERENCE.shapes, REFERENCE.answers
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"


class Case(NamedTuple):
    """A foreign class, fields of its config, and the latents (frames, rows, columns) that it is shown."""

    title: str
    given: dict
    sizes: tuple[tuple[int, int, int], ...]


def dit(heads: int, head: int, layers: int, patch: int, side: int, outputs: int) -> Case:
    given = {"num_attention_heads": heads, "attention_head_dim": head, "in_channels": 4, "out_channels": outputs,
             "num_layers": layers, "patch_size": patch, "sample_size": side, "num_embeds_ada_norm": 10,
             "attention_bias": True, "activation_fn": "gelu-approximate", "norm_type": "ada_norm_zero",
             "norm_elementwise_affine": False}
    return Case("DiTTransformer2DModel", given, ((1, side, side),))


def wan(heads: int, head: int, layers: int, channels: int, hidden: int, sizes) -> Case:
    given = {"patch_size": [1, 2, 2], "num_attention_heads": heads, "attention_head_dim": head, "in_channels": channels,
             "out_channels": channels, "text_dim": 20, "freq_dim": 256, "ffn_dim": hidden, "num_layers": layers,
             "cross_attn_norm": True, "qk_norm": "rms_norm_across_heads"}
    return Case("WanTransformer3DModel", given, sizes)


CASES = {
    "dit, patch 2, variance": dit(3, 16, 3, 2, 8, 8),
    "dit, patch 4": dit(2, 18, 2, 4, 16, 4),
    "dit, patch 8, variance": dit(4, 8, 2, 8, 16, 8),
    "wan, heads of 24": wan(2, 24, 3, 6, 56, ((3, 4, 6), (1, 8, 4))),
    "wan, heads of 16": wan(3, 16, 2, 4, 40, ((2, 6, 4), (5, 2, 2))),
}
LAYOUTS = {"dit": ("diffusers-dit", "dit_image"), "wan": ("diffusers-wan-dit", "wan_dit")}
TIMES, LABELS, CAPTION = (17, 803), (3, 9), 7


def weight(name: str, shape) -> np.ndarray:
    """A weight that keeps signals of order one; what a block has a copy of is drawn once for all."""
    made = draw(re.sub(r"transformer_blocks\.\d+\.norm1\.emb", "emb", name), shape)
    if name.endswith(("norm_q.weight", "norm_k.weight", "norm2.weight")):
        return 1 + 0.2 * made
    if len(shape) == 1 or "scale_shift_table" in name:
        return 0.1 * made
    return made * (1.0 if "embedding_table" in name else float(np.prod(shape[1:])) ** -0.5)


def inputs(name: str, size) -> dict[str, np.ndarray]:
    """Latents `2 fl hl wl z`, and labels or caption states."""
    given = CASES[name].given
    made = {"latents": draw(f"latents {size}", (2, *size, given["in_channels"]))}
    return made | ({"states": draw("states", (2, CAPTION, given["text_dim"]))} if name.startswith("wan") else {})


def write(name: str, folder: Path, named: dict[str, tuple[int, ...]]) -> None:
    """A case as the folder that diffusers would have written."""
    (folder / CONFIG).write_text(json.dumps({"_class_name": CASES[name].title, **CASES[name].given}))
    stored = {key: np.ascontiguousarray(weight(key, shape)) for key, shape in named.items()}
    (folder / WEIGHTS).write_bytes(safetensors.save(stored, metadata={"format": "pt"}))


@functools.lru_cache
def ours(name: str):
    """(model, config) of this package with the weights of a case, through the bridge."""
    from sora_jax import bridge, build

    layout, preset = LAYOUTS[name.partition(",")[0]]
    config = importlib.import_module(f"configs.{preset}").get_config()
    with tempfile.TemporaryDirectory() as folder:
        write(name, Path(folder), shapes(name))
        opened = bridge.open_folder(folder, layout, config)
        return build.model(opened.config, bridge.params(opened)), opened.config


def said(name: str) -> dict[str, np.ndarray]:
    """What ours says, under the names of the answers. The steps of a chain are counted from 0 there, from 1 here."""
    import jax
    import jax.numpy as jnp

    from sora_jax.models import labels
    from sora_jax.nn.patch import unpatchify

    model, made = ours(name)[0], {}
    text = [jnp.asarray(part) for part in labels.tokenize([str(label) for label in LABELS])]
    for size in CASES[name].sizes:
        given = inputs(name, size)
        tokens, places = model.tokenise(jnp.asarray(given["latents"]))
        first = 1 if name.startswith("dit") else 0
        levels, level = (jnp.asarray(TIMES)[:, None] + first) / 1000, jnp.zeros(tokens.shape[:2], int)
        states = (jnp.asarray(given["states"]), jnp.ones((2, CAPTION), bool)) if "states" in given else None
        ask = jax.jit(lambda model, *x, **more: model.everything(*x, **more))
        out = ask(model, tokens, places, levels, level, *((None, None) if states else text), text_states=states)
        made["×".join(map(str, size))] = np.asarray(unpatchify(out, model.config.patch, model.layout(size)))
    return made


def foreign(name: str):
    """diffusers' model of a case with drawn weights, and the shapes of these."""
    import diffusers
    import torch

    torch.set_num_threads(1)
    kind = getattr(diffusers, CASES[name].title)
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in CASES[name].given.items()}
    model = kind(**given)
    named = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict({key: torch.from_numpy(weight(key, shape)) for key, shape in named.items()})
    return model.eval(), named


def answers(model, name: str) -> dict[str, np.ndarray]:
    """What diffusers says, axes as here."""
    import torch

    made = {}
    for size in CASES[name].sizes:
        given, times = inputs(name, size), torch.tensor(TIMES)
        x = torch.from_numpy(np.ascontiguousarray(np.moveaxis(given["latents"], -1, 1)))
        with torch.no_grad():
            if name.startswith("dit"):
                out = model(x[:, :, 0], timestep=times, class_labels=torch.tensor(LABELS)).sample[:, :, None]
            else:
                out = model(x, timestep=times, encoder_hidden_states=torch.from_numpy(given["states"])).sample
        made["×".join(map(str, size))] = np.moveaxis(out.numpy(), 1, -1)
    return made


def cases():
    """(name, shapes, answers) of every case, as diffusers has them."""
    for name in CASES:
        model, named = foreign(name)
        yield name, named, answers(model, name)


if __name__ == "__main__":
    REFERENCE.write(cases())
