"""EDM: log-normal noise levels and a preconditioned network (Karras et al. 2022, eqs. 7 and 8, table 1).

Enters: normalised latents with captions. Leaves: the mean squared error over the tokens that were not given. The
network is F and its input is c_in x, so that the error of F is lambda times that of the denoiser c_skip x + c_out F.
"""
import math
from dataclasses import dataclass

import jax
from jaxtyping import Array, Float

from sora_jax.diffusion import times
from sora_jax.diffusion.path import Karras
from sora_jax.diffusion.regression import Regression
from sora_jax.types import ConfigError


@dataclass(frozen=True)
class Objective(Regression):
    """log level is normal with `p_mean` and `p_std`. Levels are in units of the data (standard deviation 1): the
    defaults are the paper's at 0.5, doubled. A `kind` other than edm has the loss of the paper at weight "edm"."""

    kind: str = "edm"
    p_mean: float = -0.507
    p_std: float = 1.2
    sigma_min: float = 0.004
    sigma_max: float = 160.0
    rho: float = 7.0

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.sigma_min < self.sigma_max or not self.rho > 0:
            raise ConfigError(f"objective.sigma_min={self.sigma_min}, sigma_max={self.sigma_max}, rho={self.rho}: no "
                              "path. Choose 0 < sigma_min < sigma_max and rho > 0")
        if not self.p_std > 0:
            raise ConfigError(f"objective.p_std={self.p_std} must be positive")
        if not math.log(self.sigma_min) < self.p_mean < math.log(self.sigma_max):
            raise ConfigError(f"objective.p_mean={self.p_mean} is not the log of a level between sigma_min="
                              f"{self.sigma_min} and sigma_max={self.sigma_max}")

    @property
    def path(self) -> Karras:
        """x_t = c_in (x0 + level eps)."""
        return Karras(self.sigma_min, self.sigma_max, self.rho)

    def draw(self, key: jax.Array, count: int) -> Float[Array, "b"]:
        """The times of log-normal levels, stratified over the batch; 1 for levels above sigma_max."""
        return self.path.time(-self.p_mean - self.p_std * times.normal(key, count))
