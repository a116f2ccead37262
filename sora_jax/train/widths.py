"""Width rules: the rates and first weights of a width, from those that were tuned at another ("mup").

Enters: weights with the names of their axes, and the base width. Leaves: for every weight a factor of Adam's rate and
one of its first draw, all 1 at the base width. The rules of Yang et al. 2022 (arXiv 2203.03466) for Adam, as arXiv
2505.15270 uses them for diffusion transformers. They hold along widths of one depth and one head width: scores over
sqrt(head width) grow with it.
"""
from typing import Any, NamedTuple

import jax
import optax
from flax import nnx, traverse_util

from sora_jax.types import ConfigError

RULES = ("none", "mup")


class Role(NamedTuple):
    """Which sides of a weight grow with the width. Where fan-in does, Adam's rate is times base / width."""

    fan_in: bool
    fan_out: bool


ROLES = {
    # Adam moves all entries by about the rate, whatever the scale of their gradients, and in step with the input, so
    # that outputs move by rate times fan-in. A fixed fan-in needs one rate and one deviation at every width.
    "input": Role(False, True),
    # Fan-in is the width: entries that move base / width as far move the outputs as far; deviation 1 / sqrt(fan-in).
    "hidden": Role(True, True),
    # muP's output multiplier 1 / width: the head begins at zero and Adam does not see the scale of gradients, so the
    # multiplier is nothing but base / width of the rate.
    "output": Role(True, False),
    # The caption encoder has a width of its own.
    "fixed": Role(False, False),
}
AXES = {
    ("in", "heads"): "input", ("embed", "heads"): "hidden", ("heads", "embed"): "hidden",
    (None, "embed"): "input",  # tables: a row is read as it is
    ("embed", "mlp"): "hidden", ("mlp", "embed"): "hidden", ("embed", "out"): "output",
}
LAYERS = {  # kernels from "in" to "embed": the names do not tell whether "in" is the width
    "embed": "input", "time_in": "input", "caption": "input",
    "states_in": "input", "states_out": "hidden", "text_modulation": "hidden",
    "time_out": "hidden", "modulation": "hidden", "head_modulation": "hidden",
}
DRAWN_ALIKE = ("time_in", "time_out")  # one deviation at every width; other kernels begin at Xavier's, or at zero


class Weight(NamedTuple):
    """What the rules need to know of a weight."""

    role: Role
    shape: tuple[int, ...]


def base(rule: Any) -> int:
    """The base width that the fields of `config.optimizer` name; 0 where no rule applies, as in configs from before
    there were any. Raises ConfigError naming the field."""
    name = rule.get("widths", "none")
    if name not in RULES:
        raise ConfigError(f"optimizer.widths={name!r} is no width rule; choose one of {', '.join(RULES)}")
    if name == "none":
        return 0
    if rule.base_width < 1:
        raise ConfigError(f"optimizer.base_width={rule.base_width}: give the width at which optimizer.lr was tuned")
    return rule.base_width


def role(path: tuple[str, ...], names: tuple[str | None, ...]) -> str:
    """The role of a weight, from the names of its axes and, where they do not tell, from the layer that it is of.
    The fan-in of biases and gains is one. Raises ConfigError naming a weight that no table knows."""
    sides = tuple(name for name in names if name != "layers")
    if path[0] == "text":
        return "fixed"
    if len(sides) == 1:
        return "input"
    known = LAYERS.get(path[-2]) if sides == ("in", "embed") else AXES.get(sides)
    if known is None:
        raise ConfigError(f"optimizer.widths: weight {'/'.join(map(str, path))} with axes {sides} has no role; give it "
                          "one in sora_jax/train/widths.py")
    return known


def weights(params: nnx.State) -> dict[tuple[str, ...], Weight]:
    """Role and shape of every weight, by path."""
    return {path: Weight(ROLES[role(path, leaf.get_metadata().get("out_sharding") or ())], leaf.shape)
            for path, leaf in nnx.to_flat_state(params)}


def shrink(known: dict[tuple[str, ...], Weight], base: int) -> float:
    """base / width: the width is the fan-in of the output weights. Raises ConfigError if there are none."""
    for weight in known.values():
        if weight.role == ROLES["output"]:
            return base / weight.shape[-2]
    raise ConfigError("optimizer.widths: a model without output weights has no width")


def rates(params: nnx.State, base: int) -> dict[Any, Any]:
    """A pure dict of factors of Adam's rate: base / width for weights whose fan-in is the width, 1 for the others.

    Decoupled decay keeps the rate itself and so pulls hidden weights alike at every width (Dey et al. 2025, arXiv
    2505.01618). Adam's eps stays: it would matter where gradients, which fall as 1 / width, come down to it."""
    known = weights(params)
    slower = shrink(known, base)
    return traverse_util.unflatten_dict({p: slower if weight.role.fan_in else 1.0 for p, weight in known.items()})


def draws(params: nnx.State, base: int) -> dict[tuple[str, ...], float]:
    """Factors of the first weights, by path, on top of what their initialisers do with the width: input weights get
    the deviation of the base width, hidden ones that times sqrt(base / width)."""
    known = weights(params)
    less, factors = shrink(known, base), dict.fromkeys(known, 1.0)
    for path, (grows, shape) in known.items():
        if path[-1] == "kernel" and grows != ROLES["fixed"]:
            wanted = less ** 0.5 if grows.fan_in else 1.0
            fans = shape[-2] * (less if grows.fan_in else 1) + shape[-1] * (less if grows.fan_out else 1)
            xavier = 1.0 if path[-2] in DRAWN_ALIKE else (fans / (shape[-2] + shape[-1])) ** 0.5
            factors[path] = wanted / xavier
    return factors


def begin(model: nnx.Module, base: int) -> nnx.Module:
    """`model` as it was drawn, with every weight times its factor, in place."""
    params = nnx.state(model, nnx.Param)
    factors = draws(params, base)
    for path, leaf in nnx.to_flat_state(params):
        if factors[path] != 1.0:
            leaf.set_value(leaf[...] * factors[path])
    nnx.update(model, params)
    return model


def scaled(rule: optax.GradientTransformation, factors: Any) -> optax.GradientTransformation:
    """`rule` with every direction times its factor; its state stays what it was."""
    def update(updates, state, params=None):
        directions, state = rule.update(updates, state, params)
        return jax.tree.map(lambda u, factor: u if factor == 1.0 else u * factor, directions, factors), state

    return optax.GradientTransformation(rule.init, update)
