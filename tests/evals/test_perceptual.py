"""The feature distance of planted features: by angle alone, mean over places and maps."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.evals import perceptual

NEAR = 1e-5


def test_it_is_the_angle_of_features():
    a = jnp.zeros((2, 3, 3, 4)).at[..., 0].set(5.0)
    angle = 0.7
    b = jnp.zeros((2, 3, 3, 4)).at[0, ..., 0].set(-2.0).at[1, ..., 0].set(np.cos(angle)).at[1, ..., 1].set(
        np.sin(angle))
    want = [4.0, 2 - 2 * np.cos(angle)]
    np.testing.assert_allclose(perceptual.distance([a], [b]), want, atol=NEAR)
    np.testing.assert_allclose(perceptual.distance([a], [3 * a]), 0, atol=NEAR)


def test_places_and_maps_weigh_alike():
    a = jnp.ones((1, 4, 4, 2))
    half = a.at[:, :2].multiply(-1)
    small = jnp.ones((1, 1, 1, 7))
    assert float(perceptual.distance([a], [half])[0]) == pytest.approx(2.0, abs=NEAR)
    assert float(perceptual.distance([a, small], [half, small])[0]) == pytest.approx(1.0, abs=NEAR)
    with pytest.raises(ValueError):
        perceptual.distance([a, small], [half])


def test_empty_features_have_a_finite_slope():
    slope = jax.grad(lambda x: perceptual.distance([x], [jnp.ones((1, 2, 2, 3))]).sum())(jnp.zeros((1, 2, 2, 3)))
    assert np.isfinite(slope).all()
