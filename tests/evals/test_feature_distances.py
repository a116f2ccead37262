"""Fréchet and kernel distances against closed forms: planted Gaussians, moments of a line, brute force, no bias."""
import numpy as np
import pytest

from sora_jax.evals import frechet, kid
from sora_jax.types import InputError

EXACT, LOOSE = 1e-9, 0.05


def rotated(rng, values):
    turn = np.linalg.qr(rng.normal(size=(len(values), len(values))))[0]
    return (turn * values) @ turn.T, turn


def test_commuting_gaussians_have_a_closed_form():
    """With a common basis: |m - n|² + Σ (√λ - √μ)²."""
    rng = np.random.default_rng(0)
    one, two = rng.uniform(0.1, 4, 6), rng.uniform(0.1, 4, 6)
    covariance, turn = rotated(rng, one)
    other, m, n = (turn * two) @ turn.T, rng.normal(size=6), rng.normal(size=6)
    a, b = frechet.Gaussian(m, covariance), frechet.Gaussian(n, other)
    want = np.sum((m - n) ** 2) + np.sum((np.sqrt(one) - np.sqrt(two)) ** 2)
    assert frechet.distance(a, b) == pytest.approx(want, rel=EXACT)
    assert frechet.distance(a, a) == pytest.approx(0, abs=1e-12)


def test_two_by_two_without_a_common_basis():
    """tr (S T)^½ = √(tr ST + 2 √det ST) for two dimensions."""
    s, t = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.7], [-0.7, 3.0]])
    cross = np.sqrt(np.trace(s @ t) + 2 * np.sqrt(np.linalg.det(s) * np.linalg.det(t)))
    a, b = frechet.Gaussian(np.zeros(2), s), frechet.Gaussian(np.ones(2), t)
    want = 2 + np.trace(s) + np.trace(t) - 2 * cross
    assert frechet.distance(a, b) == pytest.approx(want, rel=EXACT) == frechet.distance(b, a)


def test_a_singular_covariance_is_no_obstacle():
    flat = frechet.Gaussian(np.zeros(3), np.diag([1.0, 0, 0]))
    assert frechet.distance(flat, frechet.Gaussian(np.zeros(3), np.diag([0, 4.0, 0]))) == pytest.approx(5)


def test_the_gaussian_of_draws_is_the_planted_one():
    rng = np.random.default_rng(0)
    covariance, _ = rotated(rng, np.array([0.5, 1, 2]))
    drawn = rng.multivariate_normal([1, 2, 3], covariance, 50_000).astype(np.float32)
    found = frechet.gaussian(drawn)
    np.testing.assert_allclose(found.mean, [1, 2, 3], atol=LOOSE)
    np.testing.assert_allclose(found.covariance, covariance, atol=LOOSE)
    assert found.covariance.dtype == np.float64
    shifted = frechet.gaussian(drawn + np.float32(2))
    assert frechet.distance(found, shifted) == pytest.approx(12, rel=1e-4)
    with pytest.raises(InputError, match="at least two frames, got 1"):
        frechet.gaussian(drawn[:1])


def test_a_map_becomes_means_and_deviations():
    x = np.zeros((2, 2, 2, 3), np.float32)
    x[1, 0, :, 2] = 4
    np.testing.assert_allclose(frechet.moments(x), [[0] * 6, [0, 0, 2, 0, 0, 2]])


def test_the_kernel_distance_by_brute_force():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 3)), rng.normal(1, 2, size=(7, 3))

    def k(x, y):
        return (x @ y / 3 + 1) ** 3

    want = sum(k(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j) / 20
    want += sum(k(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j) / 42
    want -= 2 * sum(k(x, y) for x in a for y in b) / 35
    assert kid.distance(a, b) == pytest.approx(want, rel=EXACT)
    with pytest.raises(InputError, match="got 1 and 7"):
        kid.distance(a[:1], b)


def test_on_a_line_it_is_a_distance_of_three_moments():
    """E (xy + 1)³ expands into moments: MMD² = Δm₃² + 3 Δm₂² + 3 Δm₁². Means of many small draws find it: no bias."""
    rng, mean, std = np.random.default_rng(0), 0.5, 1.2
    want = (mean**3 + 3 * mean * std**2) ** 2 + 3 * (mean**2 + std**2 - 1) ** 2 + 3 * mean**2
    for shift, scale, planted in ((0, 1, 0.0), (mean, std, want)):
        found = [kid.distance(rng.normal(size=(20, 1)), rng.normal(shift, scale, (20, 1))) for _ in range(4000)]
        assert abs(np.mean(found) - planted) < 4 * np.std(found) / len(found) ** 0.5
    assert min(found) < 0
