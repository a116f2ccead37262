"""A small text encoder with drawn weights, and a tokenizer of words."""
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sora_jax import captions
from sora_jax.models import t5

WIDTH = 8
SMALL = t5.Config(vocab=40, width=WIDTH, depth=2, heads=2, head=4, hidden=12)


def drawn(module, config):
    """A model with drawn weights."""
    graph, shapes = nnx.split(nnx.eval_shape(lambda: module.build(config, rngs=nnx.Rngs(0))))
    rng = np.random.default_rng(0)
    return nnx.merge(graph, jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes))


def split(texts, length):
    """A number a word, and 1 at the end."""
    return [[2 + sum(word.encode()) % 38 for word in text.split()][:length - 1] + [1] for text in texts]


def encoder() -> captions.Encoder:
    """A T5's encoder of width `WIDTH`."""
    return captions.Encoder(drawn(t5, SMALL), split, "weights", "tokenizer")
