"""Adapters of low rank and the weights they are beside: put in, taken out, written for diffusers.

    python -m launch.lora --do=merge --run=experiments/004_every_family --adapters=black.safetensors --out=runs/merged
    python -m launch.lora --do=unmerge --run=runs/merged --adapters=black.safetensors --out=runs/base
    python -m launch.lora --do=export --adapters=runs/adapted/adapters.safetensors --out=wan_lora.safetensors

A run with lora.rank leaves merged weights.safetensors and adapters.safetensors. --adapters is such a file, or one with
diffusers' names (transformer.blocks.0.attn1.to_q.lora_A.weight). merge and unmerge write a folder that all doors open.
"""
from absl import flags

from launch import door

DO = flags.DEFINE_enum("do", None, ["merge", "unmerge", "export"], "what to do", required=True)
RUN = flags.DEFINE_string("run", "", "run folder or weights file, to merge into or to take out of")
ADAPTERS = flags.DEFINE_string("adapters", None, "file of adapters, ours or diffusers'", required=True)
OUT = flags.DEFINE_string("out", None, "new folder, or with --do=export the file to write", required=True)


def run() -> None:
    """The door."""
    from pathlib import Path

    from sora_jax.types import InputError

    if (DO.value == "export") == bool(RUN.value):
        raise InputError(f"--do={DO.value} with --run={RUN.value or None}: merge and unmerge need the weights, export "
                         "needs none")
    if not Path(ADAPTERS.value).is_file():
        raise InputError(f"{ADAPTERS.value}: no such file of adapters")
    written(DO.value) if DO.value != "export" else exported()


def written(way: str) -> None:
    """Weights with the adapters put in or taken out, as a folder."""
    import json

    import jax
    import numpy as np

    from sora_jax import adapter_file, build, checkpoint, disk, lora, provenance, weights

    opened = checkpoint.load_for_inspection(RUN.value)
    adapters, scale = adapter_file.read(ADAPTERS.value, opened.config)
    params = lora.merge(opened.params, adapters, scale if way == "merge" else -scale)
    out, text = disk.fresh(OUT.value), build.to_json(opened.config)
    kept = {name: value for name, value in opened.meta.items() if name in provenance.FIELDS}
    about = {"adapters": ADAPTERS.value, "way": way, "weights_before": opened.meta.get("hash", "an unfinished run")}
    found = weights.save_weights(out / "weights.safetensors", jax.tree.map(np.asarray, params),
                                 {"config": json.loads(text), **kept, "lora": about})
    disk.write(out / "config.json", text.encode())
    print(f"{OUT.value}: {found}, {RUN.value} with {ADAPTERS.value} {'put in' if way == 'merge' else 'taken out'}")


def exported() -> None:
    """The adapters with diffusers' names."""
    import json
    from pathlib import Path

    from sora_jax import adapter_file, build, weights
    from sora_jax.types import InputError

    if Path(OUT.value).exists():
        raise InputError(f"{OUT.value} is there already; name a new file")
    adapters, meta = weights.load_weights(ADAPTERS.value)
    config = build.from_json(json.dumps(meta["config"]))
    if not build.lora_rank(config):
        raise InputError(f"{ADAPTERS.value} holds weights, not adapters: its config has no lora.rank")
    print(f"{OUT.value}: {adapter_file.write(OUT.value, adapters, config)} tensors with diffusers' names")


if __name__ == "__main__":
    door.main(run)
