"""Rotated queries and keys meet in a product that depends on differences of position alone, and keep their length."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.nn import rope

TOLERANCE = 1e-5


def product(q, k, shift, width):
    places = jnp.array([[[0.0, 1.0, 2.0], [3.0, 0.0, 5.0]]]) + shift
    q, k = (rope.rotate(x, rope.rotation(places, width)) for x in (q, k))
    return jnp.einsum("bnae,bmae->banm", q, k)


@pytest.mark.parametrize("width", [2, 4, 6, 12, 64])
def test_scores_depend_on_differences(key, width):
    q, k = jax.random.normal(key, (2, 1, 2, 3, width))
    here, there = product(q, k, 0.0, width), product(q, k, jnp.array([7.0, 2.0, 4.0]), width)
    np.testing.assert_allclose(here, there, atol=TOLERANCE * width)


@pytest.mark.parametrize("axis", range(3))
def test_every_axis_turns_something(key, axis):
    q, k = jax.random.normal(key, (2, 1, 2, 1, 12))
    shift = jnp.zeros((1, 2, 3)).at[0, 1, axis].set(3.0)
    still, moved = (product(q, k, by, 12) for by in (0.0, shift))
    assert jnp.abs(still - moved)[0, 0, 0, 1] > 1e-3


def test_length_is_kept(key):
    x = jax.random.normal(key, (1, 4, 2, 10))
    turned = rope.rotate(x, rope.rotation(jax.random.uniform(key, (1, 4, 3)) * 50, 10))
    np.testing.assert_allclose(jnp.linalg.norm(turned, axis=-1), jnp.linalg.norm(x, axis=-1), rtol=TOLERANCE)
