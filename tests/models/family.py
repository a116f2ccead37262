"""The family of autoencoders at widths of a few channels: its compressions, its options, and members by chance."""
import functools
import itertools
import random

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from configs import vae as sizes
from sora_jax import registry

RATIOS = list(itertools.product(sizes.TIMES, sizes.SIDES, sizes.SIDES))
WIDTHS = {"encoder": (4, 6, 4), "decoder": (4, 4, 6)}


def fields(ratio, **options) -> dict:
    """The `vae` section of a compression, at small widths."""
    config = sizes.compress(sizes.get_config(), "x".join(map(str, ratio)))
    return {"patch": config.vae.patch, "time": config.vae.time, "space": config.vae.space, "channels": 4, **WIDTHS,
            **options}


def sample(count: int) -> dict[str, tuple[str, dict]]:
    """Members by name. A seeded draw in which every reduction of time, height and width comes as often as it can, and
    each kind of block with and without attention; and two of Wan's layout."""
    rng, members = random.Random(0), {}
    columns = [(values * count)[:count] for values in ([*sizes.TIMES], [*sizes.SIDES], [*sizes.SIDES],
                                                       ["2+1d", "3d"], [0, 1, 2], [1, 1, 2], [1, 4, 8])]
    for column in columns:
        rng.shuffle(column)
    for *ratio, block, attention, blocks, channels in zip(*columns, strict=True):
        name = f"{'x'.join(map(str, ratio))} {block} attention {attention} blocks {blocks} channels {channels}"
        members[name] = "video_vae", fields(ratio, block=block, attention=attention, blocks=blocks, channels=channels)
    for time in ((1, 2), (2, 1)):
        members[f"wan {time}"] = "wan_vae", {"channels": 3, "time": time, "space": (2, 2), "encoder": (4, 4, 6),
                                             "decoder": (4, 4, 6), "blocks": 1}
    return members


@functools.lru_cache
def parts(module, config):
    """(structure, weights that are all noise): no zero hides a leak."""
    graph, shapes = nnx.split(nnx.eval_shape(lambda: module.build(config, rngs=nnx.Rngs(0))))
    rng = np.random.default_rng(0)
    noisy = [jnp.asarray(rng.normal(size=leaf.shape, scale=leaf.size**-0.25).astype(np.float32))
             for leaf in jax.tree.leaves(shapes)]
    return graph, jax.tree.unflatten(jax.tree.structure(shapes), noisy)


def drawn(member):
    """The autoencoder of a member."""
    name, given = member
    module = registry.load("models", name)
    return nnx.merge(*parts(module, module.Config(**given)))
