"""What a run costs before any device is touched: parameters, FLOPs, bytes per device, hours. Exact integers where a
formula exists, named estimates where it does not (activations).

FLOPs are 2 per multiply-add, matmuls only; training costs three forward passes. Published DiT figures count
multiply-adds as one (Peebles and Xie 2023, table 4; `published_dit_macs`). 6 N D is printed for contrast, never used:
at 320 tokens and width 32 the true cost is 2.7 times that.
"""
import dataclasses
import math
from collections.abc import Callable, Mapping

from sora_jax.types import ConfigError

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
MASTER = 4  # weights, gradients, moments and averages are kept in fp32 whatever the compute dtype
MESH_AXES = ("data", "fsdp", "tensor", "sequence")
REMAT = ("none", "dots", "full")


def dit_training_flops(forward: Mapping[str, int]) -> int:
    """Training FLOPs of one clip from its forward FLOPs by group: the backward pass costs two forward passes.
    Recomputation by remat is not counted: it is the machine's work, not the model's."""
    return 3 * sum(forward.values())


def dit_forward_flops(depth: int, width: int, tokens: int, elements: int, mlp_ratio: int = 4) -> dict[str, int]:
    """Forward FLOPs of one clip through a plain adaLN DiT without text, one noise level per clip."""
    d, t = width, tokens
    return {"attention_scores": 4 * depth * t * t * d, "blocks": 2 * depth * t * (4 + 2 * mlp_ratio) * d * d,
            "modulation": 12 * depth * d * d, "embed": 2 * t * elements * d, "head": 2 * t * elements * d}


def published_dit_macs(depth: int, width: int, tokens: int, elements: int, frequencies: int = 256) -> int:
    """Multiply-adds of one forward pass of a DiT with learned variance (head of 2 `elements`), the "Gflops" of Peebles
    and Xie 2023: their twelve figures come out within rounding plus 0.02 %."""
    d, t = width, tokens
    blocks = depth * (12 * d * d * t + 2 * t * t * d + 6 * d * d)
    return blocks + 3 * t * elements * d + 2 * d * d + frequencies * d + d * d


def params_by_group(depth: int, width: int, elements: int, out: int | None = None, mlp_ratio: int = 4,
                    frequencies: int = 256, classes: int = 0) -> dict[str, int]:
    """Parameters of a plain DiT by group: `n_core` (matmul kernels of the blocks), `adaln`, `embed`, `head`, `norms`
    (biases of the blocks). adaLN holds a third of a DiT's parameters and almost none of its FLOPs."""
    d, out = width, elements if out is None else out
    return {"n_core": depth * (4 + 2 * mlp_ratio) * d * d, "adaln": (6 * depth + 2) * (d + 1) * d,
            "embed": (elements + 1) * d + (frequencies + 1) * d + (d + 1) * d + classes * d, "head": (d + 1) * out,
            "norms": depth * (5 + mlp_ratio) * d}


def state_bytes(params: int, mesh: Mapping[str, int], ema: int = 1, single: int = 0, beside: int = 0,
                adapted: int = 0) -> dict[str, int]:
    """Bytes per device of what persists between updates, for fp32 master copies sharded over fsdp and tensor.
    `single` of the parameters have one moment (Muon), the others two (Adam). `beside` them are parameters that are
    trained and not kept, so without an average. `adapted` are parameters of adapters: they alone are trained then."""
    ways = mesh["fsdp"] * mesh["tensor"]
    if adapted:
        share = MASTER * math.ceil(adapted / ways)
        return {"weights": MASTER * math.ceil(params / ways) + share, "gradients": share, "moments": 2 * share,
                "ema": ema * share}
    share = MASTER * math.ceil(params / ways)
    trained = share + MASTER * math.ceil(beside / ways)
    return {"weights": trained, "gradients": trained, "moments": 2 * trained - MASTER * (single // ways),
            "ema": ema * share}


def text_elements(states: int, length: int, width: int, depth: int, heads: int) -> int:
    """Elements of a caption encoder's activations, for one caption: its blocks keep everything, being cheap."""
    return depth * (56 * states * width + 2 * heads * states**2) + 3 * length * width


def activation_bytes(*, clips: float | int, tokens: float | int, width: int, depth: int, dtype: str,
                     remat: str = "dots", mlp_ratio: int = 4, text_tokens: int = 0, heads: int = 0,
                     text: int = 0) -> dict[str, int]:
    """Estimated bytes of activations on one device that holds `clips` clips of `tokens` tokens: what all layers keep
    until the backward pass, and the peak inside one. `text` are elements kept by the caption encoder, a clip. `heads`
    counts score matrices that are materialised (0 for fused attention). Coefficients fit what XLA allocates on CPU for
    depths 2 to 6, widths 128 and 256, 80 to 320 tokens: kept within 2 %, peak within 20 %."""
    d, m, scores = tokens * width, mlp_ratio, heads * tokens * (tokens + text_tokens)
    captions = 2 * text_tokens * width
    kept = {"full": d, "dots": (8 + m) * d + captions, "none": (32 + 6 * m) * d + captions + 2 * scores}
    peak = {"full": (28 + 4 * m) * d + 3.5 * scores, "dots": 24 * d + 4 * scores, "none": 32 * d + 2 * scores}
    size = BYTES[dtype] * clips
    return {"activations_kept": int(size * (depth * kept[remat] + text)), "activations_peak": int(size * peak[remat])}


def clips_for(flops: float | int, flops_per_clip: int) -> int:
    """Clips that a training budget pays for."""
    return int(flops // flops_per_clip)


def updates_for(clips: int, batch: int) -> int:
    """Optimiser steps that show `clips` clips, the last one included if part full."""
    return -(-clips // batch)


@dataclasses.dataclass(frozen=True)
class Budget:
    """The cost of one run. `params` and `forward_flops` (one clip) and `bytes_per_device` are by group; `beside` counts
    parameters that are trained with the model and not kept, `adapted` those of adapters beside frozen weights,
    with which FLOPs are still counted as if all were trained: an upper bound, about a third above what is done."""

    params: dict[str, int]
    forward_flops: dict[str, int]
    tokens: int
    clips: int
    batch: int
    mesh: dict[str, int]
    dtype: str
    bytes_per_device: dict[str, int]
    beside: int = 0
    adapted: int = 0

    @classmethod
    def make(cls, counts: Mapping[str, int], forward_flops: Mapping[str, int], *, tokens: int, clips: int, batch: int,
             width: int, depth: int, mesh: Mapping[str, int], dtype: str, remat: str = "dots", mlp_ratio: int = 4,
             text_tokens: int = 0, heads: int = 0, ema: int = 1, text: int = 0, single: int = 0,
             images: int = 0, image_share: float = 0.0, beside: int = 0, adapted: int = 0) -> "Budget":
        """From parameter counts and forward FLOPs by group. `mesh` gives sizes of data, fsdp, tensor, sequence (absent
        is 1). Raises ConfigError naming the field that cannot be."""
        sizes = {axis: int(mesh.get(axis, 1)) for axis in MESH_AXES}
        _check(sizes, mesh, dtype, remat, tokens=tokens, clips=clips, batch=batch, width=width, depth=depth)
        replicas = sizes["data"] * sizes["fsdp"]
        if batch % replicas:
            raise ConfigError(f"train.batch={batch} does not divide over mesh.data x mesh.fsdp = {replicas} devices")
        held = activation_bytes(clips=batch / replicas, tokens=tokens / sizes["sequence"], width=width, depth=depth,
                                dtype=dtype, remat=remat, mlp_ratio=mlp_ratio, text_tokens=text_tokens, heads=heads,
                                text=text)
        if images:  # their activations lie beside those of the clips
            less = activation_bytes(clips=images * batch / replicas, tokens=tokens * image_share, width=width,
                                    depth=depth, dtype=dtype, remat=remat, mlp_ratio=mlp_ratio,
                                    text_tokens=text_tokens, heads=heads, text=text)
            held = {"activations_kept": held["activations_kept"] + less["activations_kept"],
                    "activations_peak": max(held["activations_peak"], less["activations_peak"])}
        bytes_per_device = {**state_bytes(sum(counts.values()), sizes, ema, single, beside, adapted), **held}
        return cls(dict(counts), dict(forward_flops), tokens, clips, batch, sizes, dtype, bytes_per_device, beside,
                   adapted)

    @property
    def n_total(self) -> int:
        return sum(self.params.values())

    @property
    def n_core(self) -> int:
        """Matmul parameters of the blocks; every parameter where there is no such group."""
        return self.params.get("n_core", self.n_total)

    @property
    def flops_per_clip(self) -> int:
        """Training FLOPs of one clip."""
        return dit_training_flops(self.forward_flops)

    @property
    def flops(self) -> int:
        """Training FLOPs of the run."""
        return self.clips * self.flops_per_clip

    @property
    def updates(self) -> int:
        return updates_for(self.clips, self.batch)

    @property
    def devices(self) -> int:
        return math.prod(self.mesh.values())

    def hours(self, flops_per_second: float | int) -> float:
        """Hours at a rate of model FLOPs over all devices together."""
        if not flops_per_second > 0:
            raise ConfigError(f"flops_per_second={flops_per_second} must be positive")
        return self.flops / flops_per_second / 3600

    def table(self, flops_per_second: float | int | None = None) -> str:
        """The whole plan as text; the term of attention that grows as tokens squared has its own line."""
        scores = {"attention_scores": "attention_scores (N^2 d)"}
        forward = {scores.get(name, name): value for name, value in self.forward_flops.items()}
        mesh = " x ".join(f"{axis} {size}" for axis, size in self.mesh.items())
        devices = f"{self.devices} device{'s' * (self.devices > 1)}: {mesh}; {self.dtype}; activations are estimates"
        return "\n".join([
            "parameters", *_shares(self.params, "{:,}".format),
            "forward FLOPs of one clip (2 per multiply-add)", *_shares(forward, _flops),
            "run", *self._run_rows(flops_per_second),
            f"bytes per device ({devices})", *_shares(self.bytes_per_device, _bytes)])

    def _run_rows(self, flops_per_second: float | int | None) -> list[str]:
        ratio = self.flops_per_clip / (6 * self.n_core * self.tokens)
        rows = [("tokens per clip", f"{self.tokens:,}", ""), ("clips", f"{self.clips:,}", ""),
                ("updates", f"{self.updates:,}", f"of {self.batch} clips"),
                ("training FLOPs per clip", _flops(self.flops_per_clip), f"{ratio:.2f} x 6 n_core tokens"),
                ("training FLOPs", _flops(self.flops), "")]
        if self.beside:
            rows.append(("parameters beside the model", f"{self.beside:,}", "a critic's: trained and not kept"))
        if self.adapted:
            rows.append(("trained parameters", f"{self.adapted:,}", f"of adapters, beside frozen weights "
                         f"({self.adapted / self.n_total:.2%})"))
        if flops_per_second is not None:
            rows.append(("hours", f"{self.hours(flops_per_second):.3g}", f"at {_flops(flops_per_second)}/s"))
        return [f"  {name:27}{value:>15}   {note}".rstrip() for name, value, note in rows]


def _check(sizes: dict[str, int], mesh: Mapping[str, int], dtype: str, remat: str, **counts: int) -> None:
    for axis in mesh:
        if axis not in MESH_AXES:
            raise ConfigError(f"mesh.{axis} is not an axis; a mesh has {', '.join(MESH_AXES)}")
    for axis, size in sizes.items():
        if size < 1:
            raise ConfigError(f"mesh.{axis}={size} must be at least 1 to count bytes; state the number of devices")
    if dtype not in BYTES:
        raise ConfigError(f"dtype={dtype!r} is not one of {', '.join(BYTES)}")
    if remat not in REMAT:
        raise ConfigError(f"model.remat={remat!r} is not one of {', '.join(REMAT)}")
    for name, value in counts.items():
        if value < 1:
            raise ConfigError(f"{name}={value} must be at least 1")


def _shares(groups: Mapping[str, int], spell: Callable[[int], str]) -> list[str]:
    total = sum(groups.values())
    rows = [f"  {name:26}{spell(value):>16}{100 * value / max(total, 1):>9.1f} %" for name, value in groups.items()
            if value]
    return [*rows, f"  {'total':26}{spell(total):>16}"]


def _flops(value: float | int) -> str:
    power = min(max(int(math.log10(max(value, 1))) // 3, 0), 8)
    return f"{value / 1000**power:.4g} {['', 'k', 'M', 'G', 'T', 'P', 'E', 'Z', 'Y'][power]}FLOP"


def _bytes(value: float | int) -> str:
    power = min(max(int(math.log2(max(value, 1))) // 10, 0), 5)
    return f"{value / 1024**power:.4g} {['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'][power]}"
