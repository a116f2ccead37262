"""What an autoencoder's latents cost and what they give back, from records of a sweep over compression and channels.

Enters: records of autoencoders with the shapes of a clip and of its latents, the bits of a sampled latent and its PSNR.
Leaves: points, and a picture of PSNR against latent numbers per pixel and against bits per pixel.
"""
import itertools
import os
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sora_jax.scaling.figure import INK, MARKERS, STYLE, save
from sora_jax.types import InputError

NEEDED = ("clip_shape", "latent_shape", "bits_per_pixel", "psnr", "psnr_sampled")
SAME = ("clips", "batch")


class Point(NamedTuple):
    """One autoencoder. `reduction` is pixels per latent in time, height and width; `numbers` latent numbers per number
    of the pixels, three a pixel."""

    id: str
    reduction: tuple[int, int, int]
    channels: int
    numbers: float
    bits: float
    psnr: float
    psnr_sampled: float
    flops: float
    seed: int

    @property
    def label(self) -> str:
        """As in 4×8×8."""
        return "×".join(map(str, self.reduction))


def points(records: list[dict[str, Any]]) -> list[Point]:
    """A point for each record, by reduction and channels. Raises InputError for records that are not of autoencoders,
    of clips of several sizes, or trained on unequal numbers of them."""
    made, sizes = [], set()
    for row in records:
        found = row["metrics"]
        if absent := [name for name in NEEDED if name not in found]:
            raise InputError(f"record {row['id']} has no metrics.{absent[0]}; only records of autoencoders have one")
        (f, h, w), (fl, hl, wl, z) = found["clip_shape"], found["latent_shape"]
        sizes.add((f, h, w))
        reduction = ((f - 1) // (fl - 1) if fl > 1 else f, h // hl, w // wl)
        made.append(Point(row["id"], reduction, z, fl * hl * wl * z / (3 * f * h * w), found["bits_per_pixel"],
                          found["psnr"], found["psnr_sampled"], row["flops"], row["seed"]))
    if len(sizes) != 1:
        raise InputError(f"records of clips of {len(sizes)} sizes do not compare: {sorted(sizes)}")
    for name in SAME:
        if len(values := {row[name] for row in records}) > 1:
            raise InputError(f"{name} varies among the records ({sorted(values)}): these autoencoders do not compare")
    return sorted(made, key=lambda point: (np.prod(point.reduction), point.reduction, point.channels, point.seed))


def table(found: list[Point]) -> str:
    """One line a point."""
    lines = [f"{'reduction':>10}{'channels':>10}{'numbers':>10}{'bits/pixel':>12}{'PSNR':>8}{'of a sample':>13}"
             f"{'training FLOPs':>16}"]
    lines += [f"{p.label:>10}{p.channels:10}{'1/%.0f' % (1 / p.numbers):>10}{p.bits:12.3f}{p.psnr:8.2f}"
              f"{p.psnr_sampled:13.2f}{p.flops:16.2g}" for p in found]
    return "\n".join(lines)


def draw(found: list[Point], path: str | os.PathLike) -> None:
    """Two panels to `path`, one line a reduction; the channels stand beside the points."""
    labels = list(dict.fromkeys(point.label for point in found))
    shades = dict(zip(labels, mpl.colormaps["viridis"](np.linspace(0.0, 0.85, len(labels))), strict=True))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        for label, marker in zip(labels, itertools.cycle(MARKERS)):
            line = [point for point in found if point.label == label]
            _line(left, [p.numbers for p in line], [p.psnr for p in line], line, shades[label], marker)
            _line(right, [p.bits for p in line], [p.psnr_sampled for p in line], line, shades[label], marker)
        left.set_xscale("log", base=2)
        left.set(xlabel="latent numbers per number of the pixels", ylabel="PSNR of held-out clips, dB",
                 title="size of the latents (posterior mean)")
        right.set_xscale("log", base=2)
        right.set(xlabel="bits per pixel of a sampled latent, upper bound", ylabel="PSNR of the sample, dB",
                  title="rate and distortion (posterior sample)")
        left.xaxis.set_major_formatter(lambda x, _: f"1/{1 / x:.0f}")
        right.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        left.legend(title="time × height × width")
        save(figure, path)


def _line(axes: Axes, x: list[float], y: list[float], line: list[Point], shade, marker: str) -> None:
    axes.plot(x, y, marker=marker, color=shade, markersize=5, linewidth=1, label=line[0].label, markeredgecolor=INK,
              markeredgewidth=0.5)
    for point, at in zip(line, zip(x, y, strict=True), strict=True):
        axes.annotate(point.channels, at, xytext=(4, -9), textcoords="offset points", fontsize=7, color=INK)
