"""Planted sweeps: records and points whose law is known."""
import numpy as np

from sora_jax.scaling import records as ledger
from sora_jax.scaling.points import Points, table

EPOCH = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}  # Besiroglu et al. 2024
HOFFMANN = {"E": np.exp(0.5267228), "A": np.exp(6.0073404), "B": np.exp(6.0179186), "alpha": 0.33917084,
            "beta": 0.2849083}  # Hoffmann et al. 2022, unrounded, from the TeX source of the paper
VIDEO = {"E": 0.4856, "A": 0.0082, "B": 0.0373, "alpha": 0.3188, "beta": 0.2917}  # Yin et al. 2024, in billions
SMALL = {"E": 0.25, "A": 0.05 * 2e5**0.34, "B": 0.05 * 1.25e5**0.30, "alpha": 0.34, "beta": 0.30}
SIZES = ((32, 2), (48, 3), (64, 4), (96, 5), (128, 6), (192, 8), (256, 8))
TOKENS = 80


def loss(n, d, law):
    """E + A / n^alpha + B / d^beta."""
    return law["E"] + law["A"] / np.asarray(n, float) ** law["alpha"] + law["B"] / np.asarray(d, float) ** law["beta"]


def chinchilla(law, noise=0.0, seed=0, sizes=20) -> Points:
    """About 80 points (160 with 40 sizes) on the nine budgets of Hoffmann et al. 2022 (6e18 to 3e21), 44M to 16B."""
    budgets = (6e18, 1e19, 3e19, 6e19, 1e20, 3e20, 6e20, 1e21, 3e21)
    cells = [(n, c / 6 / n) for c in budgets for n in np.geomspace(44e6, 16e9, sizes) if 2 < c / 6 / n / n < 400]
    n, d = np.array(cells).T
    draws = np.random.default_rng(seed).normal(size=len(n))
    return table(n, d, loss(n, d, law) * np.exp(noise * draws))


def record(**changes) -> dict:
    """One valid record of a 64 x 4 model."""
    base = {"id": "a", "experiment": "planted", "config_hash": "0", "model": "w64d4", "width": 64, "depth": 4,
            "n_core": 196608, "n_total": 300000, "params": {"n_core": 196608, "adaln": 103392}, "tokens_per_clip": 80,
            "clips": 1000, "tokens": 80000, "latent_elements": 1280000, "flops": 116_000_000_000, "flops_version": 1,
            "steps": 32, "batch": 32, "annealed": True, "seed": 0, "lr": 1e-3, "val_loss": 0.5, "device": "cpu",
            "dtype": "float32", "commit": "0000000"}
    return {**base, **changes}


def flops_per_clip(depth, width, tokens=TOKENS):
    """Training FLOPs of one clip, without text."""
    blocks = depth * (24 * width**2 * tokens + 4 * tokens**2 * width + 12 * width**2)
    return 3 * (blocks + 4 * tokens * 16 * width)


def sweep(law=None, budget=1e14, branches=5, noise=0.0, shared=0.7, seed=0, curves=False) -> list[dict]:
    """Records of one constant-rate run per size, with cooldown branches at D, D/2, D/4, … Part of the noise is shared
    by the branches of a run."""
    law, rng, records = law or SMALL, np.random.default_rng(seed), []
    for width, depth in SIZES:
        cost, own = flops_per_clip(depth, width), rng.normal()
        for k in range(branches):
            n, clips = 12 * depth * width**2, int(budget / cost / 2**k)
            error = noise * (shared**0.5 * own + (1 - shared) ** 0.5 * rng.normal())
            name = f"w{width}d{depth}"
            seen = np.geomspace(200, clips, 40)
            curve = [[int(c), float(1.03 * loss(n, c, law))] for c in seen] if curves and not k else []
            records.append(record(
                id=f"{name}-{k}", branch_of=f"{name}-0" if k else None, model=name, width=width, depth=depth, n_core=n,
                n_total=int(1.6 * n), params={"n_core": n, "adaln": n // 2}, clips=clips, tokens=clips * TOKENS,
                flops=cost * clips, steps=clips // 32, cooldown_fraction=0.2,
                val_loss=float(loss(n, clips, law) * np.exp(error)),
                metrics={"curve": curve} if curve else {}))
    return [ledger.validate(row) for row in records]
