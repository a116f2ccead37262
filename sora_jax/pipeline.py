"""Captions to video with a finished run: the transformer, the autoencoder it was trained on, and a sampler.

`Pipeline.open(path)` finds the autoencoder through the run's config and refuses another one than it was trained on.
"""
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Shaped, UInt8
from ml_collections import ConfigDict

from sora_jax import build, checkpoint, coder, generate, provenance, registry, states, validation
from sora_jax.types import ConfigError, InputError

ROOT = Path(__file__).resolve().parents[1]
CHOICES = ("name", "steps", "guidance", "shift", "grid", "eta", "guidance_known", "rescale", "interval", "zero_star",
           "zero_steps", "known_noise", "lag", "interpolate")  # of config.sampler


def autoencoder(path: str | Path, near: Path | None = None, want: str | None = None) -> tuple[nnx.Module, dict]:
    """(model, meta) of an autoencoder; a relative path is looked for here, beside `near`, and in the checkout.

    Raises InputError if it is nowhere, or if its hash is not `want`, naming both.
    """
    tried = [Path(path), *([near / path] if near else []), ROOT / path]
    found = next((candidate for candidate in tried if candidate.exists()), None)
    if found is None:
        raise InputError(f"no autoencoder at {path} (vae.weights); train one with python -m launch.train"
                         " --config=configs/vae.py, or set --config.vae.weights")
    run = checkpoint.load_for_inspection(found)
    if run.config.stage != "vae":
        raise InputError(f"{found} is a {run.config.stage} run, not an autoencoder; point vae.weights at one")
    have = run.meta.get("hash", "an unfinished run")
    if want and have != want:
        raise InputError(f"the autoencoder at {found} is {have}, the model was trained on the latents of {want};"
                         " give that one with --vae")
    return run.model, {**run.meta, "config": run.config}


def encode(vae: nnx.Module, clips: Shaped[np.ndarray, "b f h w c"]) -> jax.Array:
    """Normalised latents `b fl hl wl z` of a batch of clips, uint8 or floats in [-1, 1]. Raises InputError."""
    coder.check(vae, clips)
    return coder.encode(vae, jnp.asarray(clips))


def decode(vae: nnx.Module, latents: jax.Array, batch: int = 16) -> UInt8[np.ndarray, "b f h w c"]:
    """Pixels of normalised latents, a few clips at a time so that memory does not grow with their number."""
    parts = [np.asarray(coder.decode(vae, latents[i : i + batch])) for i in range(0, len(latents), batch)]
    return np.concatenate(parts)


class Pipeline(NamedTuple):
    """A model that is ready to draw."""

    config: ConfigDict
    model: nnx.Module
    vae: nnx.Module
    record: dict | None

    @classmethod
    def open(cls, path: str | Path, vae: str | Path = "") -> "Pipeline":
        """From a run folder, a folder with committed weights, or a weights file. Raises InputError."""
        run = checkpoint.load_for_inspection(path)
        if run.config.stage != "dit":
            raise InputError(f"{path} is a {run.config.stage} run; sampling needs a diffusion transformer")
        folder = run.config.data.get("states", "")
        if folder and (Path(folder) / states.META).is_file():
            provenance.check(run.meta, {**run.meta, "text_hash": states.load(folder).hash}, str(path))
        near = Path(path) if Path(path).is_dir() else Path(path).parent
        coder, _ = autoencoder(vae or run.config.vae.weights, near, run.meta.get("vae_hash"))
        return cls(run.config, run.model, coder, run.record)

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Latents of a clip of this size. ConfigError if the autoencoder or the patch cannot make it."""
        changed = ConfigDict(self.config.to_dict())
        changed.data.frames, changed.data.height, changed.data.width = frames, height, width
        build.tokens_per_clip(changed)
        return build.latent_shape(changed)

    def changed(self, changes: Mapping[str, Any]) -> ConfigDict:
        """The config with these fields of its sampler. ConfigError if there is no such field or it cannot be so."""
        for name in changes:
            if name not in CHOICES:
                near = difflib.get_close_matches(name, CHOICES, n=1)
                raise ConfigError(f"sampler has no {name!r}; {f'did you mean {near[0]!r}? ' if near else ''}it has "
                                  f"{', '.join(CHOICES)}")
        plain = self.config.to_dict()
        config = ConfigDict({**plain, "sampler": {**plain["sampler"], **changes}})
        validation.check_sampler(config)
        return config

    def guiding(self, guide: "Pipeline") -> nnx.Module:
        """The model of `guide`. InputError unless it takes this one's tokens and captions and predicts as it does."""
        ours, theirs = self.config, guide.config
        same = {"model.patch": (ours.model.patch, theirs.model.patch),
                "text": tuple((each.text.name, each.text.length) for each in (ours, theirs)),
                "an autoencoder": tuple(checkpoint.weights_hash(nnx.state(each.vae)) for each in (self, guide)),
                "objective": tuple((rule.path, rule.kind) for rule in map(build.objective, (ours, theirs)))}
        for name, (one, other) in same.items():
            if one != other:
                raise InputError(f"the guiding run has {name}={other}, the run itself {one}; choose one that was"
                                 " trained alike, smaller or for less long")
        return guide.model

    def sample(self, prompts: Sequence[str], *, batch: int = 16, **options: Any) -> UInt8[np.ndarray, "b f h w c"]:
        """One clip per prompt: `latents`, decoded. Raises ConfigError, InputError."""
        return decode(self.vae, self.latents(prompts, batch=batch, **options), batch)

    def latents(
        self,
        prompts: Sequence[str],
        *,
        seed: int = 0,
        size: tuple[int, int, int] | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        sampler: str | None = None,
        known: Bool[np.ndarray, "*cells"] | None = None,
        clips: Shaped[np.ndarray, "b f h w c"] | None = None,
        x_known: Float[Array, "b fl hl wl z"] | None = None,
        batch: int = 16,
        changes: Mapping[str, Any] | None = None,
        guide: "Pipeline | None" = None,
        text_states: tuple | None = None,
    ) -> Float[Array, "b fl hl wl z"]:
        """The latents of one clip per prompt, a pure function of (weights, prompts, seed, options).

        `size` is (frames, height, width). `known` marks the latent frames `fl`, the cells `fl hl wl`, or the cells of
        each clip `b fl hl wl`, that are taken from `clips` (same size) or from their latents `x_known`: the first frame
        alone is image-to-video, the last alone extends backwards, all cells but a box are inpainting. `changes`
        replaces further fields of config.sampler. `guide` is a weaker model that guides in place of the prediction
        without caption. `text_states`, ((states, mask) of the prompts, (states, mask) of none), are for a model whose
        captions are encoded elsewhere, e.g. by `sora_jax.captions`. Raises ConfigError, InputError.
        """
        asked = {"name": sampler, "steps": steps, "guidance": guidance}
        config = self.changed(dict(changes or {}) | {name: part for name, part in asked.items() if part is not None})
        weaker, data = None if guide is None else self.guiding(guide), config.data
        size = tuple(size or (data.frames, data.height, data.width))
        shape = self.latent_shape(*size)
        if (clips is not None) + (x_known is not None) != (known is not None):
            raise InputError("known frames and the clips they come from (or their latents) go together")
        bare = np.zeros((len(prompts), 0), np.uint8), np.zeros((len(prompts), 0), bool)
        text, mask = (jnp.asarray(part) for part in (tokens(config, prompts) if text_states is None else bare))
        if clips is not None and clips.shape[:4] != (len(prompts), *size):
            raise InputError(f"the given clips are of shape {clips.shape}; {len(prompts)} prompts of this size take "
                             f"{(len(prompts), *size)} and colours")
        given = x_known if clips is None else encode(self.vae, clips)
        squeeze = {"within": build.latent_shape(self.config)[:3]} if config.sampler.get("interpolate", False) else {}
        hold = {} if known is None else {"known": self.known_tokens(known, (len(prompts), *shape)), "x_known": given}
        drawn = []
        for start in range(0, len(prompts), batch):
            part = slice(start, start + batch)
            drawn.append(
                generate.generate(
                    self.model, build.objective(config), build.sampler(config), text=text[part], mask=mask[part],
                    shape=shape, key=jax.random.fold_in(jax.random.key(seed), start), guide_model=weaker,
                    **build.sampling(config), **squeeze, **{name: value[part] for name, value in hold.items()},
                    text_states=jax.tree.map(lambda x, part=part: jnp.asarray(x)[part], text_states),
                )
            )
        return jnp.concatenate(drawn)

    def known_tokens(self, known: Bool[np.ndarray, "*cells"], shape: tuple[int, int, int, int, int]
                     ) -> Bool[Array, "b n"]:
        """The tokens that are known in latents of `shape` = (b, fl, hl, wl, z): those whose cells all are. Raises
        InputError for a mask of another size, and for one that fills no token."""
        known = np.asarray(known)
        fits = (shape[1:2], shape[1:4], shape[:4])
        if known.shape not in fits:
            raise InputError(f"known is of shape {known.shape}; these latents have the frames {fits[0]}, the cells "
                             f"{fits[1]}, or those of each clip, {fits[2]}")
        cells = known[:, None, None] if known.ndim == 1 else known
        every = jnp.asarray(np.broadcast_to(cells[..., None], shape), jnp.float32)
        whole = self.model.tokenise(every)[0].min(axis=-1) > 0.5
        if known.any() and not whole.any():
            raise InputError(f"the known cells fill no token whole: model.patch={tuple(self.config.model.patch)} "
                             "cells; give more of the clip")
        return whole


def stored_states(config: ConfigDict, captions: Sequence[str]):
    """States and mask of captions, from the folder that the run was trained on. Raises InputError naming those that are
    not there, or if it holds states of another width."""
    kept = states.opened(config.data.states, config.text.length)
    if kept.origin.width != config.text.width:
        raise InputError(f"the states in {config.data.states} have {kept.origin.width} numbers, this model reads "
                         f"{config.text.width}; put back the folder that it was trained on")
    kept.check(captions, "the prompts", "--prompts=<file of captions>")
    return tuple(np.stack(part) for part in zip(*map(kept, captions), strict=True))


def tokens(config: ConfigDict, captions: Sequence[str]):
    """Caption bytes or states, and mask, as the run reads them. Raises InputError for an empty prompt, for a label that
    is none, and for captions without states where it reads these."""
    empty = [i for i, caption in enumerate(captions) if not caption.strip()]
    if empty or not len(captions):
        raise InputError("--prompt is empty; say what to draw, for example --prompt 'a red circle moves right'")
    if config.text.name == "given" and config.data.get("states", ""):
        return stored_states(config, [caption.strip() for caption in captions])
    text, mask = registry.load("models", config.text.name).tokenize(list(captions), config.text.length)
    if config.text.name == "labels" and (text @ np.array([256, 1]) >= config.text.classes).any():
        raise InputError(f"the classes of this model are numbered from 0 to {config.text.classes - 1}; {list(captions)}"
                         " asks for another")
    return text, mask
