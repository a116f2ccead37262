"""From captions to latents: one compiled call that encodes the captions once and walks the sampler's times.

Guidance runs the predictions with and without caption (and known tokens) as one batch. Known tokens are held at their
value and at level 0, so image-to-video, extension, joining and inpainting are the same call with another mask.
"""
import inspect
from functools import partial
from types import ModuleType

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Shaped

from sora_jax.diffusion import grids, rollout
from sora_jax.diffusion.guidance import Guidance, combine
from sora_jax.diffusion.path import corrupt, split, target
from sora_jax.types import ConfigError, InputError

PLAIN = Guidance()


def generate(model: nnx.Module, objective, sampler_module: ModuleType, *, text: Shaped[Array, "b l *d"],
             mask: Bool[Array, "b l"], shape: tuple[int, int, int, int], steps: int, guidance: float = 1.0,
             shift: float = 1.0, key: jax.Array, known: Bool[Array, "b n"] | None = None,
             x_known: Float[Array, "b fl hl wl z"] | None = None, grid: str = "shifted", eta: float = 0.0,
             rule: Guidance = PLAIN, guide_model: nnx.Module | None = None, known_noise: float = 0.0,
             lag: int = 0, within: tuple[int, int, int] | None = None,
             text_states: tuple | None = None) -> Float[Array, "b fl hl wl z"]:
    """Latents of `shape` = (fl, hl, wl, z) for each caption, a pure function of the key.

    `known` marks the tokens whose value is taken from `x_known`; while the others are drawn they are shown with noise
    of time `known_noise`. With `lag` each latent frame is so many steps behind the one before. Positions of latents
    larger than `within` = (fl, hl, wl) are squeezed into it (Chen et al. 2023, arXiv 2306.15595). `text_states`: for a
    model whose captions are encoded elsewhere, (states `b m c`, mask `b m`) of the captions and of no caption; `text`
    is not read then. `rule` refines guidance. `guide_model`, of the same tokens and objective, takes the place of the
    prediction without caption (Karras et al. 2024, arXiv 2406.02507, eq. 3). Raises InputError if only one of known and
    x_known is given, ConfigError for what does not fit together."""
    if (known is None) != (x_known is None):
        raise InputError("generate needs known and x_known together: which tokens are given, and their values")
    check(sampler_module, steps, grid, eta, rule, known_noise, lag)
    graph, params = nnx.split(model)
    given = None if known is None else (jnp.asarray(known), jnp.asarray(x_known, jnp.float32))
    apart = given is not None and rule.guidance_known != 1.0
    if apart and guide_model is not None:
        raise ConfigError(f"sampler.guidance_known={rule.guidance_known} with a guiding model: it takes the place of "
                          "the predictions that know less; use guidance_known=1")
    guided = guidance != 1.0 or apart
    guide_graph, guide_params = nnx.split(guide_model) if guided and guide_model is not None else (None, None)
    return run(params, jnp.asarray(text), jnp.asarray(mask), given, key, jnp.float32(guidance), jnp.float32(shift),
               guide_params, text_states, graph=graph, objective=objective, sample=sampler_module.sample,
               shape=tuple(shape), steps=steps, guided=guided, grid=grid, eta=float(eta), rule=rule,
               guide_graph=guide_graph, known_noise=float(known_noise), lag=lag, within=within)


def check(sampler_module: ModuleType, steps: int, grid: str, eta: float, rule: Guidance, known_noise: float = 0.0,
          lag: int = 0) -> None:
    """ConfigError unless there is such a grid, the sampler takes such an eta, and a step is left to walk."""
    grids.check(grid)
    if steps < 1:
        raise ConfigError(f"sampler.steps={steps} must be positive")
    if eta < 0 or eta > 1:
        raise ConfigError(f"sampler.eta={eta} is not in [0, 1]")
    if eta and "eta" not in inspect.signature(sampler_module.sample).parameters:
        raise ConfigError(f"sampler.eta={eta} is for sampler.name='ddim'; {sampler_module.__name__.split('.')[-1]} has "
                          "no such choice, set it to 0")
    if rule.zero_steps >= steps:
        raise ConfigError(f"sampler.zero_steps={rule.zero_steps} leaves nothing of sampler.steps={steps}; give fewer")
    if not 0 <= known_noise < 1 or known_noise and rule.guidance_known != 1:
        raise ConfigError(f"sampler.known_noise={known_noise} must be a time in [0, 1), and 0 beside a guidance_known "
                          f"other than 1 (it is {rule.guidance_known})")
    plain = (sampler_module.__name__.split(".")[-1] == "ddim" and not eta and rule.everywhere
             and not rule.zero_star)  # the velocity of a frame that is finished may be infinite
    if lag < 0 or lag and not plain:
        raise ConfigError(f"sampler.lag={lag} must be 0 or more steps, and above 0 it is for sampler.name='ddim' with "
                          "eta=0, interval=(0, 1) and zero_star=False")


@partial(jax.jit, static_argnames=("graph", "objective", "sample", "shape", "steps", "guided", "grid", "eta", "rule",
                                   "guide_graph", "known_noise", "lag", "within"))
def run(params, text, mask, given, key, guidance, shift, guide_params, text_states, *, graph, objective, sample, shape,
        steps, guided, grid, eta, rule, guide_graph, known_noise, lag, within):
    """`generate` with everything that decides the program as a static argument."""
    model = nnx.merge(graph, params)
    guide_model = None if guide_graph is None else nnx.merge(guide_graph, guide_params)
    key_noise, key_sampler = jax.random.split(key)
    noise, positions = model.tokenise(jax.random.normal(key_noise, (text.shape[0], *shape)))
    known = jnp.zeros(noise.shape[:2], bool) if given is None else given[0]
    clean = jnp.zeros_like(noise) if given is None else model.tokenise(given[1])[0]

    shown = corrupt(objective.path, clean, noise, jnp.float32(known_noise)) if known_noise else clean

    def hold(x):
        return jnp.where(known[:, :, None], shown, x)

    frame = positions[0, :, 0].astype(jnp.int32) if lag else None
    if within is not None:
        layouts = zip(model.layout(within), model.layout(shape[:3]), strict=True)
        positions = positions * jnp.asarray([min(1.0, old / new) for old, new in layouts])
    denoise = denoiser(model, objective, text, mask, positions, None if given is None else known,
                       guidance if guided else None, rule=rule, noise=None if given is None else noise,
                       guide_model=guide_model, layout=model.layout(shape[:3]), known_noise=known_noise, frame=frame,
                       text_states=text_states)
    # A velocity of zero leaves x as it is: the first steps of CFG-Zero* are those that are not walked.
    times = grids.grid(grid, steps, objective.path, shift)[rule.zero_steps:]
    if lag:
        times = rollout.pyramid(times, model.layout(shape[:3])[0], lag)
        tokens = rollout.sample(denoise, hold(noise), times, objective.path, frame, hold)
    else:
        tokens = sample(denoise, hold(noise), times, objective.path, key_sampler, hold, **({"eta": eta} if eta else {}))
    tokens = jnp.where(known[:, :, None], clean, tokens) if known_noise else tokens
    return model.untokenise(tokens, shape[:3])


def denoiser(model, objective, text, mask, positions, known, guidance, *, rule=PLAIN, noise=None, guide_model=None,
             layout=None, known_noise=0.0, frame=None, text_states=None):
    """x, t -> (x0, eps) for a batch of captions, guided unless `guidance` is None. With `frame`, that of each token, t
    has a time for each latent frame.

    `known` None: no token is. `noise` is what stands, at level t, in the place of known tokens where a prediction is
    made without them; only a rule whose guidance_known is not 1 needs it. `guide_model` is shown the same as the
    model. `layout`: of the tokens, (frames, rows, columns)."""
    unknown = jnp.ones(positions.shape[:2], bool) if known is None else ~jnp.asarray(known)
    seeing = [(mask, known)]
    if guidance is not None and guide_model is None:
        seeing += [(jnp.zeros_like(mask), known)]
        if noise is not None and rule.guidance_known != 1.0:
            seeing += [(jnp.zeros_like(mask), jnp.zeros_like(known))]
    passes, other = (None if each is None else
                     predictor(each, objective, text, positions, seeing, noise, layout, known_noise, frame, text_states)
                     for each in (model, guide_model))
    kind = "flow" if rule.zero_star else objective.kind

    def own(t):
        return t if frame is None else t[frame][None]

    def guided(x, t):
        predictions = passes(x, t) if other is None else [*passes(x, t), *other(x, t)]
        t = own(t)
        if kind != objective.kind:
            predictions = [target(objective.path, kind, *split(objective.path, objective.kind, one, x, t), t)
                           for one in predictions]
        return split(objective.path, kind, combine(rule, guidance, unknown, *predictions), x, t)

    def plain(x, t):
        return split(objective.path, objective.kind, passes(x, t)[0], x, own(t))

    if guidance is None:
        return plain
    if rule.everywhere:
        return guided
    alone = denoiser(model, objective, text, mask, positions, known, None, layout=layout, known_noise=known_noise,
                     text_states=text_states)
    low, high = rule.interval
    return lambda x, t: jax.lax.cond((low <= t) & (t <= high), guided, alone, x, t)


def predictor(model, objective, text, positions, seeing, noise, layout, known_noise=0.0, frame=None,
              text_states=None):
    """x, t -> the predictions of one batch that shows the same tokens with each (mask of the caption, known tokens) of
    `seeing`; the last may know none, and sees `noise` at level t in their place. Where none is known at all (None)
    every token is at the one level t."""
    copies, first = len(seeing), seeing[0][1]
    if text_states is None:
        states = model.encode_text(jnp.concatenate([text] * copies), jnp.concatenate([mask for mask, _ in seeing]))
    else:  # the first sees the captions, the others none
        pairs = zip(*text_states, strict=True)
        states = tuple(jnp.concatenate([one, *[none] * (copies - 1)]) for one, none in pairs)
    places = jnp.concatenate([positions] * copies)
    noisy = jnp.zeros(positions.shape[:2], jnp.int32) + (0 if frame is None else frame)
    level = jnp.concatenate([noisy if known is None else jnp.where(known, 0, 1 + noisy) for _, known in seeing])

    def predict(x, t):
        shown = [x] * copies
        if copies == 3:
            own = t if frame is None else t[frame][None]
            shown[2] = jnp.where(first[:, :, None], corrupt(objective.path, x, noise, own), x)
        still = [] if first is None else [jnp.full((1,), known_noise, t.dtype)]
        times = jnp.concatenate([*still, jnp.atleast_1d(t)])
        levels = jnp.broadcast_to(times, (places.shape[0], len(times)))
        prediction = model(jnp.concatenate(shown), places, levels, level, None, None, text_states=states, layout=layout)
        return jnp.split(prediction, copies)

    return predict
