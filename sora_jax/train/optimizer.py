"""AdamW or Muon with a clipped gradient, and a learning rate that is a pure function of the absolute step.

The schedule is a trunk (linear warm-up, then constant) and a cooldown to zero. A branch takes a stored point of the
trunk and only cools down from there, so one trunk serves many data sizes (Hägele et al. 2024, arXiv:2405.18392, whose
"1-sqrt" shape is the default). Trunk and branch agree at every step before the branch point.
"""
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx, traverse_util
from optax import contrib

from sora_jax.train import widths
from sora_jax.train.state import CRITIC, kept
from sora_jax.types import ConfigError

SHAPES = ("linear", "1-sqrt")
HIDDEN = ("embed", "mlp", "heads")
KERNEL = (None, None, None, "in", "out")  # of a convolution


def cooling(end: int, cooldown: float) -> int:
    """The update at which a run or branch that ends at `end` begins to cool down; branches leave their trunk here."""
    return end - round(cooldown * end)


def schedule(lr: float, steps: int, warmup: float = 0.02, cooldown: float = 0.2, shape: str = "1-sqrt",
             end: int | None = None) -> optax.Schedule:
    """Rate by absolute step (number or numpy array). `warmup` is a fraction of `steps`, the trunk's length in updates.

    The last `cooldown` of the first `end` updates cools down to zero: `end` is `steps` unless a branch ends earlier.
    `cooldown` 0 is the trunk itself, constant for ever. Raises ConfigError naming the field.
    """
    if shape not in SHAPES:
        raise ConfigError(f"optimizer.shape={shape!r} is not a cooldown; choose one of {', '.join(SHAPES)}")
    for name, value in (("warmup", warmup), ("cooldown", cooldown)):
        if not 0 <= value < 1:
            raise ConfigError(f"optimizer.{name}={value} is not a fraction of the run; give one in [0, 1)")
    if not lr > 0 or steps < 1:
        raise ConfigError(f"optimizer.lr={lr} over {steps} steps cannot train; give a positive rate and length")
    end = steps if end is None else end
    rise, begin = round(warmup * steps), cooling(end, cooldown)
    if cooldown and begin < rise:
        raise ConfigError(f"a branch that cools down from update {begin} starts inside the warm-up of {rise} updates; "
                          "lower optimizer.warmup or give the run more clips")

    def rate(count):
        value = lr * np.minimum(1.0, (count + 1) / max(rise, 1))
        if cooldown == 0:
            return value
        done = np.clip((count - begin) / max(end - begin, 1), 0.0, 1.0)
        return value * (1 - (done if shape == "linear" else np.sqrt(done)))

    return rate


def matrices(params: nnx.State) -> dict[Any, Any]:
    """A pure dict of bool: True where a weight has two or more axes beside the stack of layers."""
    return _marked(params, lambda names: sum(name != "layers" for name in names) >= 2)


def hidden(params: nnx.State) -> dict[Any, Any]:
    """A pure dict of bool: True for what Muon is made for, the stacked matrices from hidden units to hidden units and
    the kernels of 3-D convolutions, first and last ones too. Embeddings, modulations and heads of transformers have an
    axis of another name."""
    return _marked(params, lambda names: names == KERNEL
                   or len(names) == 3 and names[0] == "layers" and set(names[1:]) <= set(HIDDEN))


def _marked(params: nnx.State, rule) -> dict[Any, Any]:
    flat = {}
    for path, leaf in nnx.to_flat_state(params):
        flat[path] = rule(leaf.get_metadata().get("out_sharding") or (None,) * len(leaf.shape))
    return traverse_util.unflatten_dict(flat)


def adamw(*, beta1: float = 0.9, beta2: float = 0.99, eps: float = 1e-8, weight_decay: float = 0.0, clip: float = 1.0,
          decayed=None, muon: float = 0.0, hidden=None, factors=None) -> optax.GradientTransformation:
    """Clip by global norm, Adam, decoupled decay on `decayed` (default: leaves of two or more axes), all at rate 1:
    the step multiplies by the learning rate, which is an argument, so branches share one compiled program.

    With `muon` > 0 the matrices and kernels marked in `hidden` are updated by Muon instead (Jordan et al. 2024;
    momentum 0.95, orthogonalised per layer, times sqrt(max(1, out / in))), at `muon` times the learning rate. `factors`
    of the directions, one for each weight, come before the decay."""
    for name, value in (("beta1", beta1), ("beta2", beta2)):
        if not 0 <= value < 1:
            raise ConfigError(f"optimizer.{name}={value} is not the share of an average; give one in [0, 1)")
    if not (eps > 0 and clip > 0 and weight_decay >= 0 and muon >= 0):
        raise ConfigError(f"optimizer.eps={eps} and optimizer.clip={clip} must be positive, optimizer.weight_decay="
                          f"{weight_decay} and optimizer.muon={muon} not negative")
    if decayed is None:
        def decayed(params):
            return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)
    rule = optax.scale_by_adam(b1=beta1, b2=beta2, eps=eps)
    if muon:
        ways = {True: "muon", False: "adam"}
        labels = jax.tree.map(ways.get, hidden)
        rule = optax.partition({"adam": rule, "muon": orthogonal(muon)}, labels)
    if factors is not None:
        rule = widths.scaled(rule, factors)
    return optax.chain(
        optax.clip_by_global_norm(clip), rule, optax.add_decayed_weights(weight_decay, mask=decayed)
    )


def of(rule: Any, params: nnx.State) -> optax.GradientTransformation:
    """The transformation that the fields of `config.optimizer` describe, for a model with these weights; a critic among
    them has one of its own: Adam at `critic` times the learning rate, with momentum `critic_beta1` and no decay.

    Width rules leave Muon's rate alone: its directions have one spectral norm at every width."""
    if CRITIC in params:
        judge = adamw(beta1=rule.critic_beta1, beta2=rule.beta2, eps=rule.eps, clip=rule.clip)
        return beside(of(rule, nnx.State(kept(params))), optax.chain(judge, optax.scale(rule.critic)))
    base, stacked = widths.base(rule), hidden(params)
    factors = widths.rates(params, base) if base else None
    if base and rule.muon:
        factors = jax.tree.map(lambda factor, muon: 1.0 if muon else factor, factors, stacked)
    return adamw(beta1=rule.beta1, beta2=rule.beta2, eps=rule.eps, weight_decay=rule.weight_decay, clip=rule.clip,
                 decayed=matrices(params), muon=rule.muon, hidden=stacked, factors=factors)


def beside(model: optax.GradientTransformation, critic: optax.GradientTransformation) -> optax.GradientTransformation:
    """`critic` on the weights of a critic, `model` on all others: neither's clipping sees the gradients of the other.
    While a critic has no gradient at all, as before it has begun, its weights, moments and counts wait."""
    def own(tree):
        return {CRITIC: tree[CRITIC]}

    def init(params):
        return {"model": model.init(kept(params)), CRITIC: critic.init(own(params))}

    def update(grads, state, params):
        ours, first = model.update(kept(grads), state["model"], kept(params))
        hers, second = critic.update(own(grads), state[CRITIC], own(params))
        begun = optax.tree.norm(own(grads)) != 0
        hers, second = jax.tree.map(lambda new, old: jnp.where(begun, new, old), (hers, second),
                                    (jax.tree.map(jnp.zeros_like, hers), state[CRITIC]))
        return {**ours, **hers}, {"model": first, CRITIC: second}

    return optax.GradientTransformation(init, update)


def orthogonal(rate: float) -> optax.GradientTransformation:
    """Muon's direction for kernels `layers in out`, one layer at a time, times `rate`; for kernels of a convolution,
    `kf kh kw in out`, one tap at a time, divided by the root of the taps: as large as one matrix of all of them, and an
    order cheaper to orthogonalise."""
    def axes(params):
        return jax.tree.map(lambda p: contrib.MuonDimensionNumbers(p.ndim - 2, p.ndim - 1), params)

    def shaped(updates, _):
        return jax.tree.map(lambda u: u * rate * max(1.0, u.shape[-1] / u.shape[-2]) ** 0.5 * taps(u) ** -0.5, updates)

    return optax.chain(contrib.scale_by_muon(weight_dimension_numbers=axes), optax.stateless(shaped))


def taps(kernel: jax.Array) -> int:
    """Places of a convolution's kernel; 1 for a stack of matrices."""
    return math.prod(kernel.shape[:3]) if kernel.ndim == len(KERNEL) else 1
