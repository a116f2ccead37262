"""What each latent channel of an autoencoder carries: scale, shape of its distribution, information, and whether it is
used at all.

Enters: posterior means and log-variances of clips. A channel is dead if its KL to the prior is under `DEAD`: the
decoder cannot tell one clip from another by it.
"""
import numpy as np
from jaxtyping import Float

DEAD = 0.01  # nats per latent element


def evaluate(
    mean: Float[np.ndarray, "b fl hl wl z"], logvar: Float[np.ndarray, "b fl hl wl z"]
) -> dict[str, int | float | list[float]]:
    """Per channel over clips and places: mean, std, excess kurtosis (0 for a Gaussian and for a constant) of the
    posterior mean, and KL to N(0, 1) in nats per element. `rank`: the participation ratio (Σλ)² / Σλ² of the channels'
    correlations, from 1 (all alike) to the number of channels that vary (all independent)."""
    x, log = (np.asarray(a, np.float64).reshape(-1, a.shape[-1]) for a in (mean, logvar))
    kl = 0.5 * (x**2 + np.exp(log) - 1 - log).mean(0)
    centre, std = x.mean(0), x.std(0)
    varies = std > 1e-12
    unit = (x - centre) / np.where(varies, std, 1)
    kurtosis = np.where(varies, (unit**4).mean(0) - 3, 0)
    values = np.linalg.eigvalsh(unit.T @ unit / len(unit))
    return {
        "mean": centre.tolist(), "std": std.tolist(), "kurtosis": kurtosis.tolist(), "kl": kl.tolist(),
        "kl_total": float(kl.sum()), "dead": int((kl < DEAD).sum()),
        "rank": float(values.sum() ** 2 / (values**2).sum()) if varies.any() else 0.0,
    }
