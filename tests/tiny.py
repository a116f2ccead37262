"""A transformer small enough to compile in a second, with every weight drawn at random so that nothing is zero."""
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sora_jax.models import dit, text
from sora_jax.types import Batch

TEXT = text.Config(width=16, depth=1, heads=2, length=16, buckets=64)
CONFIG = dit.Config(width=24, depth=2, heads=2, channels=3, text_width=16, time_width=16)
SHAPE = (3, 4, 4, 3)
CAPTIONS = ("a red circle", "", "红色的圆形")


def build(config):
    """The model as it is built."""
    rngs = nnx.Rngs(0)
    return dit.build(config, rngs=rngs, text_encoder=text.build(TEXT, rngs=rngs))


@functools.lru_cache
def fresh(config=CONFIG):
    """The same, in one compiled call."""
    return nnx.jit(lambda: build(config))()


@functools.lru_cache
def model(config=CONFIG, scale=0.3):
    """The model with every weight replaced by noise: adaLN-Zero hides errors behind zeros."""
    graph, shapes = nnx.split(nnx.eval_shape(lambda: build(config)))
    rng = np.random.default_rng(1)
    return nnx.merge(graph, jax.tree.map(lambda leaf: jnp.asarray(scale * rng.normal(size=leaf.shape), jnp.float32),
                                         shapes))


AS_USERS = {"xla_backend_optimization_level": 3, "xla_cpu_use_fusion_emitters": True}  # where rounding is what is asked


@jax.jit
def run(model, *inputs, **options):
    """One compiled forward pass."""
    return model(*inputs, **options)


def batch(captions=CAPTIONS, shape=SHAPE, seed=0):
    """Random latents with captions."""
    x = jax.random.normal(jax.random.key(seed), (len(captions), *shape))
    bytes_, mask = text.tokenize(list(captions), TEXT.length)
    return Batch(x, jnp.asarray(bytes_), jnp.asarray(mask))


def inputs(clips: Batch, seed=0):
    """tokens, positions, levels, level, text, mask of a forward pass with both levels in use."""
    tokens, positions = fresh().tokenise(clips.x)
    key_levels, key_level = jax.random.split(jax.random.key(seed))
    levels = jax.random.uniform(key_levels, (tokens.shape[0], 2))
    level = jax.random.randint(key_level, tokens.shape[:2], 0, 2)
    return tokens, positions, levels, level, clips.text, clips.mask


def bias_flops(config, levels=2):
    """What biases of adaLN-Zero cost a program on CPU, one more row of their kernels each; plans count none."""
    if config.modulation != "block":
        return 0
    return 2 * levels * config.width * (6 * config.depth * (2 if config.text == "joint" else 1) + 2)


def matmul_flops(jaxpr):
    """FLOPs of every matmul of a program, scanned bodies times their length: the judge of the analytic formulas."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            inner = math.prod(equation.invars[0].aval.shape[i] for i in contracted)
            total += 2 * inner * math.prod(equation.outvars[0].aval.shape)
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                body = getattr(inner, "jaxpr", inner)
                total += times * matmul_flops(body) if hasattr(body, "eqns") else 0
    return total
