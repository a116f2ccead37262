"""What the latents of an autoencoder cost in bits, if each is sent as a sample of its posterior.

Enters: posterior means and log-variances of clips. A sample costs the relative entropy of its posterior to a Gaussian
per channel that both sides know (bits back: Hinton & van Camp 1993; Theis et al. 2017, arXiv 1703.00395, for images).
With the best such Gaussian, of the mean and the variance that the channel has over all clips and places, that is
½ log₂(variance of the channel / geometric mean of the posterior variances): an upper bound, as places go together.
"""
import numpy as np
from jaxtyping import Float


def evaluate(mean: Float[np.ndarray, "b fl hl wl z"], logvar: Float[np.ndarray, "b fl hl wl z"],
             pixels: int) -> dict[str, float]:
    """`bits_per_pixel`: bits of a clip's latents over its `pixels` (frames × height × width)."""
    x, log = (np.asarray(a, np.float64).reshape(-1, a.shape[-1]) for a in (mean, logvar))
    variance = x.var(0) + np.exp(log).mean(0)
    bits = 0.5 * (np.log2(variance) - log.mean(0) / np.log(2))
    return {"bits_per_pixel": float(bits.sum() * np.prod(mean.shape[1:-1]) / pixels)}
