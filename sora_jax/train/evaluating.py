"""What a run measures of itself, on EMA and raw weights: a validation loss (transformer), or reconstructions.

The held-out set and its noise are fixed by `config.eval`, so all runs of a study read the same instrument.
"""
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from sora_jax import build, sources, video
from sora_jax.diffusion import comparison
from sora_jax.evals import loss, rate, reconstruction
from sora_jax.train.state import TrainState

SEED = 0  # of the posterior samples that are decoded, the same in every batch


class Evaluation:
    """Readers for one config, built once; each call is a pure function of the weights."""

    def __init__(self, config: ConfigDict, graph: nnx.GraphDef):
        self.config, self.graph = config, graph
        self.held = sources.validation(config)
        if config.stage == "vae":
            self.reconstruct = jax.jit(lambda params, x: _reconstruct(nnx.merge(graph, nnx.State(params)), x))
            self.sample = jax.jit(lambda params, x: _sample(nnx.merge(graph, nnx.State(params)), x))
        else:
            objective, rule = build.objective(config), config.eval
            self.read = loss.reader(graph, objective, self.held, times=rule.times, seed=rule.seed)
            self.match = loss.reader(graph, comparison.Matched(objective, "flow"), self.held, times=rule.times,
                                     seed=rule.seed) if rule.get("matched") else None

    def measure(self, params, clips: int | None = None) -> dict[str, Any]:
        """`val_loss` and what goes with it, for these weights; `clips` limits the autoencoder's set."""
        if self.config.stage != "vae":
            return loss.evaluate(np.asarray(self.read(params)))
        found = reconstruction.evaluate(lambda x: self.reconstruct(params, x), self.held[:clips])
        return {"val_loss": 10 ** (-found["psnr"] / 10), **found}

    def matched(self, params) -> dict[str, float]:
        """With `eval.matched`, the validation error as that of a flow objective, which those of all objectives can be
        compared by."""
        if self.config.stage == "vae" or self.match is None:
            return {}
        found = loss.evaluate(np.asarray(self.match(params)))
        return {"matched_loss": found["val_loss"], "matched_loss_se": found["val_loss_se"]}

    def coded(self, params, batch: int = 8) -> dict[str, Any]:
        """An autoencoder as a code: the shapes of a clip and its latents, the bits of a sample of their posterior, and
        the PSNR of what the decoder makes of that sample."""
        shapes = {"clip_shape": self.held.shape[1:4], "latent_shape": build.whole_latent_shape(self.config)}
        errors, means, logvars = [], [], []
        for start in range(0, len(self.held), batch):
            part = self.held[start:start + batch]
            padded = np.concatenate([part, np.repeat(part[-1:], batch - len(part), 0)])
            back, mean, logvar = (np.asarray(made)[:len(part)] for made in self.sample(params, padded))
            errors.append(((back.astype(np.float64) - part) ** 2).mean((1, 2, 3, 4)))
            means.append(mean), logvars.append(logvar)
        error, mean, logvar = np.concatenate(errors).mean(), np.concatenate(means), np.concatenate(logvars)
        bits = rate.evaluate(mean, logvar, int(np.prod(shapes["clip_shape"])))
        return {name: list(shape) for name, shape in shapes.items()} | bits | {
            "psnr_sampled": reconstruction.psnr(error)}

    def brief(self, state: TrainState) -> dict[str, float]:
        """Scalars on the EMA weights, for the curves of a run."""
        measured = self.measure(state.ema, 32)
        return {key: measured[key] for key in ("val_loss", "psnr") if key in measured}


def _reconstruct(model, x):
    mean, _ = model.moments(video.to_float(x))
    return video.to_uint8(model.decoder(mean))


def _sample(model, x):
    back, mean, logvar = model(video.to_float(x), jax.random.key(SEED))
    return video.to_uint8(back), mean, logvar


def statistics(graph: nnx.GraphDef, params, videos: np.ndarray, batch: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every latent channel over `videos`: what makes latents unit-scaled."""
    moments = jax.jit(lambda params, x: nnx.merge(graph, nnx.State(params)).moments(video.to_float(x))[0])
    chunks = [np.asarray(moments(params, videos[i : i + batch])) for i in range(0, len(videos), batch)]
    flat = np.concatenate(chunks).reshape(-1, chunks[0].shape[-1]).astype(np.float64)
    return flat.mean(0).astype(np.float32), flat.std(0).astype(np.float32)


def with_statistics(params: dict, mean: np.ndarray, std: np.ndarray) -> dict:
    """The same weights with the latents' mean and standard deviation stored among them."""
    return {**params, "mean": jnp.asarray(mean), "std": jnp.asarray(std)}
