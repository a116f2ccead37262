"""From captions to latents: one compiled call that encodes the captions once and walks the sampler's times.

Guidance runs the conditional and unconditional predictions as one doubled batch. Known tokens are held at their value
and at level 0, so image-to-video, extension, joining and inpainting are the same call with another mask.
"""
from functools import partial
from types import ModuleType

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, UInt8

from sora_jax.diffusion import times
from sora_jax.diffusion.guidance import guide
from sora_jax.diffusion.path import split
from sora_jax.types import InputError


def generate(model: nnx.Module, objective, sampler_module: ModuleType, *, text: UInt8[Array, "b l"],
             mask: Bool[Array, "b l"], shape: tuple[int, int, int, int], steps: int, guidance: float = 1.0,
             shift: float = 1.0, key: jax.Array, known: Bool[Array, "b n"] | None = None,
             x_known: Float[Array, "b fl hl wl z"] | None = None) -> Float[Array, "b fl hl wl z"]:
    """Latents of `shape` = (fl, hl, wl, z) for each caption, a pure function of the key.

    `known` marks the tokens whose value is taken from `x_known`. Raises InputError if only one of the two is given."""
    if (known is None) != (x_known is None):
        raise InputError("generate needs known and x_known together: which tokens are given, and their values")
    graph, params = nnx.split(model)
    given = None if known is None else (jnp.asarray(known), jnp.asarray(x_known, jnp.float32))
    return run(params, jnp.asarray(text), jnp.asarray(mask), given, key, jnp.float32(guidance), jnp.float32(shift),
               graph=graph, objective=objective, sample=sampler_module.sample, shape=tuple(shape), steps=steps,
               guided=guidance != 1.0)


@partial(jax.jit, static_argnames=("graph", "objective", "sample", "shape", "steps", "guided"))
def run(params, text, mask, given, key, guidance, shift, *, graph, objective, sample, shape, steps, guided):
    """`generate` with everything that decides the program as a static argument."""
    model = nnx.merge(graph, params)
    key_noise, key_sampler = jax.random.split(key)
    noise, positions = model.tokenise(jax.random.normal(key_noise, (text.shape[0], *shape)))
    known = jnp.zeros(noise.shape[:2], bool) if given is None else given[0]
    clean = jnp.zeros_like(noise) if given is None else model.tokenise(given[1])[0]

    def hold(x):
        return jnp.where(known[:, :, None], clean, x)

    denoise = denoiser(model, objective, text, mask, positions, known, guidance if guided else None)
    tokens = sample(denoise, hold(noise), times.grid(steps, shift), objective.path, key_sampler, hold)
    return model.untokenise(tokens, shape[:3])


def denoiser(model, objective, text, mask, positions, known, guidance):
    """x, t -> (x0, eps) for a batch of captions, guided unless `guidance` is None."""
    copies = 1 if guidance is None else 2
    empty = [jnp.zeros_like(mask)] * (copies - 1)
    states = model.encode_text(jnp.tile(text, (copies, 1)), jnp.concatenate([mask, *empty]))
    places, level = (jnp.concatenate([part] * copies) for part in (positions, (~known).astype(jnp.int32)))

    def denoise(x, t):
        levels = jnp.broadcast_to(jnp.stack([jnp.zeros_like(t), t]), (places.shape[0], 2))
        prediction = model(jnp.concatenate([x] * copies), places, levels, level, None, None, text_states=states)
        if guidance is not None:
            prediction = guide(*jnp.split(prediction, 2), guidance)
        return split(objective.path, objective.kind, prediction, x, t)

    return denoise
