"""A classifier's view of a picture: EfficientNet-lite0 (Tan and Le 2019, arXiv 1905.11946, without squeeze-excitation).

Enters: frames `b h w 3` in [-1, 1]. Leaves: the feature maps after each of its seven stages, or class logits. Batch
norms are folded into the convolutions, so a convolution is a kernel and a bias. Weights come from arrays under the
names of the public PyTorch port; without them the network is random, which still makes features for a test.
"""
import dataclasses
from collections.abc import Mapping
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from sora_jax.nn.axes import param
from sora_jax.nn.separable import conv, depthwise
from sora_jax.types import InputError

EPSILON = 1e-3  # of the batch norms
UNUSED = ".num_batches_tracked"


@dataclasses.dataclass(frozen=True)
class Config:
    """`stages` are (blocks, kernel, stride, expansion, channels); the defaults are lite0."""

    stem: int = 32
    stages: tuple[tuple[int, int, int, int, int], ...] = (
        (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    )
    head: int = 1280
    classes: int = 1000


class Conv(nnx.Module):
    """A kernel and a bias; `depthwise` where the kernel has no input channels."""

    def __init__(self, shape: tuple[int, ...], stride: int, *, rngs: nnx.Rngs):
        fan_in = int(np.prod(shape[:-1]))
        names = (None,) * (len(shape) - 1) + ("out",)
        self.kernel = param(rngs.params(), jax.nn.initializers.normal((2 / fan_in) ** 0.5), shape, names)
        self.bias = param(rngs.params(), jax.nn.initializers.zeros, shape[-1:], ("out",))
        self.stride = stride

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b ho wo d"]:
        kernel = self.kernel[...]
        return (depthwise if kernel.ndim == 3 else conv)(x, kernel, self.stride) + self.bias[...]


class Block(nnx.Module):
    """Inverted residual: expand, filter each channel, project (Sandler et al. 2018, arXiv 1801.04381)."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int, expansion: int, *, rngs: nnx.Rngs):
        wide = cin * expansion
        self.expand = Conv((1, 1, cin, wide), 1, rngs=rngs) if expansion > 1 else None
        self.depthwise = Conv((kernel, kernel, wide), stride, rngs=rngs)
        self.project = Conv((1, 1, wide, cout), 1, rngs=rngs)
        self.skip = stride == 1 and cin == cout

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b ho wo d"]:
        y = x if self.expand is None else jax.nn.relu6(self.expand(x))
        y = self.project(jax.nn.relu6(self.depthwise(y)))
        return x + y if self.skip else y


class Features(nnx.Module):
    """The network; `maps` and `logits` are its two readings."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs):
        self.config = config
        self.stem = Conv((3, 3, 3, config.stem), 2, rngs=rngs)
        stages, cin = [], config.stem
        for repeat, kernel, stride, expansion, cout in config.stages:
            widths = [cin] + [cout] * repeat
            stages.append(nnx.List([Block(a, b, kernel, stride if i == 0 else 1, expansion, rngs=rngs)
                                    for i, (a, b) in enumerate(pairwise(widths))]))
            cin = cout
        self.stages = nnx.List(stages)
        self.head = Conv((1, 1, cin, config.head), 1, rngs=rngs)
        self.classes = Conv((1, 1, config.head, config.classes), 1, rngs=rngs)

    def maps(self, x: Float[Array, "b h w 3"], last: int = 6) -> list[Float[Array, "b _h _w _d"]]:
        """Feature maps after stages 0 to `last`; those of lite0 have a side of 1/2, 1/4, 1/8, 1/16, 1/16, 1/32, 1/32
        of the picture's."""
        found, x = [], jax.nn.relu6(self.stem((127.5 * x + 0.5) / 128))  # (pixels - 127) / 128
        for stage in self.stages[:last + 1]:
            for block in stage:
                x = block(x)
            found.append(x)
        return found

    def logits(self, x: Float[Array, "b h w 3"]) -> Float[Array, "b classes"]:
        """Of the classes of ImageNet, in its usual order."""
        y = jax.nn.relu6(self.head(self.maps(x)[-1]))
        return self.classes(jnp.mean(y, (1, 2), keepdims=True))[:, 0, 0]


def build(config: Config, *, rngs: nnx.Rngs) -> Features:
    """Random weights."""
    return Features(config, rngs=rngs)


def flops(config: Config, height: int, width: int, last: int = 6) -> dict[str, int]:
    """Forward FLOPs of the maps of one picture up to stage `last`; convolutions only, multiply and add counted as
    two."""
    high, wide, cin = -(-height // 2), -(-width // 2), config.stem
    total = 2 * 27 * cin * high * wide
    for repeat, kernel, stride, expansion, cout in config.stages[:last + 1]:
        for i in range(repeat):
            inner = cin * expansion
            total += 2 * high * wide * cin * inner * (expansion > 1)
            if i == 0:
                high, wide = -(-high // stride), -(-wide // stride)
            total += 2 * high * wide * inner * (kernel**2 + cout)
            cin = cout
    return {"features": total}


def convolutions(config: Config) -> dict[str, tuple[tuple, str, str]]:
    """Of the public port's names: convolution -> (our place, its batch norm, axes of ours in terms of `o i h w`)."""
    found, number = {"_conv_stem": (("stem",), "_bn0", "hwio")}, 0
    for i, (repeat, _, _, expansion, _) in enumerate(config.stages):
        for j in range(repeat):
            name, place = f"_blocks.{number}.", ("stages", i, j)
            if expansion > 1:
                found[f"{name}_expand_conv"] = ((*place, "expand"), f"{name}_bn0", "hwio")
            found[f"{name}_depthwise_conv"] = ((*place, "depthwise"), f"{name}_bn1", "hwo")
            found[f"{name}_project_conv"] = ((*place, "project"), f"{name}_bn2", "hwio")
            number += 1
    return found | {"_conv_head": (("head",), "_bn1", "hwio")}


def from_arrays(arrays: Mapping[str, np.ndarray], config: Config = Config()) -> Features:  # noqa: B008
    """The network with the weights of the public port. Raises InputError naming the first array that is missing,
    unused or of another shape."""
    left = {name: array for name, array in arrays.items() if not name.endswith(UNUSED)}

    with nnx.use_eager_sharding(False):
        graph, state = nnx.split(nnx.eval_shape(lambda: Features(config, rngs=nnx.Rngs(0))))
    wanted = dict(nnx.to_flat_state(state))

    def take(name, *shape):
        if name not in left:
            raise InputError(f"the feature weights lack {name}; they are of another network")
        array = left.pop(name)
        if np.shape(array) != shape:
            raise InputError(f"the feature weights' {name} is {np.shape(array)}, not {shape}; they are of another "
                             "network")
        return np.asarray(array, np.float64)

    made = {}
    for name, (place, norm, order) in convolutions(config).items():
        high, wide, *into, out = wanted[(*place, "kernel")].shape
        kernel = take(f"{name}.weight", out, *(into or [1]), high, wide)
        gain, bias, mean, variance = (take(f"{norm}.{part}", out)
                                      for part in ("weight", "bias", "running_mean", "running_var"))
        scale = gain / np.sqrt(variance + EPSILON)
        kernel = kernel * scale[:, None, None, None]
        kernel = kernel.transpose(2, 3, 1, 0) if order == "hwio" else kernel[:, 0].transpose(1, 2, 0)
        made[(*place, "kernel")], made[(*place, "bias")] = kernel, bias - mean * scale
    made["classes", "kernel"] = take("_fc.weight", config.classes, config.head).T[None, None]
    made["classes", "bias"] = take("_fc.bias", config.classes)
    if left:
        raise InputError(f"the feature weights hold {min(left)}, which the network lacks; they are of another network")
    flat = {place: leaf.replace(jnp.asarray(made[place], jnp.float32)) for place, leaf in wanted.items()}
    return nnx.merge(graph, nnx.from_flat_state(flat))
