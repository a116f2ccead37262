"""One scale for models trained with different objectives: errors at the same signal-to-noise ratio, of the same kind.

A path with its times is a way to walk through noise levels, and two models are asked the same question where alpha /
sigma is the same. Enters: the triplets (clip, noise, t) of the validation loss. Leaves: errors that can be compared.
"""
import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from sora_jax.diffusion import matching, weighting
from sora_jax.diffusion.path import Flow, Path
from sora_jax.types import Batch

STRAIGHT = Flow()


def matched_errors(objective, model, batch: Batch, t: Float[Array, "b"], eps: Float[Array, "b fl hl wl z"],
                   kind: str = "x0", path: Path = STRAIGHT) -> Float[Array, "b"]:
    """Per-clip error of the model where its own path has the signal-to-noise ratio that `path` has at t, expressed as
    the error of a prediction of this kind on `path`. An own path that ends before is asked at its end.

    With kind "flow" on the straight path these are the `errors` of a flow objective, and what the same measurement is
    for any other. Raises KeyError for an unknown kind."""
    own = objective.path
    at = own.time(path.log_snr(t) + math.log(path.sigma_data / own.sigma_data))
    error = matching.errors(objective, model, batch, at, eps, "x0") / own.sigma_data**2
    return error * jnp.square(weighting.gain(path, kind, t))


@dataclass(frozen=True)
class Matched:
    """The objective as `evals.loss.reader` takes it, read by `matched_errors`."""

    objective: Any
    kind: str = "x0"
    path: Path = STRAIGHT

    def errors(self, model, batch: Batch, t: Float[Array, "b"], eps: Float[Array, "b fl hl wl z"]) -> Float[Array, "b"]:
        """Per-clip error at the times of `path` and this noise."""
        return matched_errors(self.objective, model, batch, t, eps, self.kind, self.path)
