"""unpatchify after patchify is the identity, tokens are where their positions say, and misfits are one clear line."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.nn import patch
from sora_jax.types import ConfigError


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 2, 2), (3, 2, 1), (1, 4, 6)])
def test_unpatchify_inverts_patchify(key, size):
    x = jax.random.normal(key, (2, 3, 4, 6, 5))
    tokens = patch.patchify(x, size)
    assert tokens.shape == (2, 3 * 4 * 6 // np.prod(size), 5 * np.prod(size))
    np.testing.assert_array_equal(patch.unpatchify(tokens, size, patch.grid((3, 4, 6), size)), x)


def test_a_token_holds_the_patch_at_its_position(key):
    x = jax.random.normal(key, (1, 3, 4, 6, 5))
    tokens, places = patch.patchify(x, (1, 2, 3)), patch.positions(patch.grid((3, 4, 6), (1, 2, 3)))
    for token, (f, h, w) in zip(tokens[0], np.asarray(places, int), strict=True):
        np.testing.assert_array_equal(token, x[0, f, 2 * h:2 * h + 2, 3 * w:3 * w + 3].reshape(-1))


def test_a_misfit_says_the_arithmetic():
    with pytest.raises(ConfigError, match=r"height 5 = 2 \* 2 \+ 1") as error:
        patch.grid((3, 5, 4), (1, 2, 2))
    assert "\n" not in str(error.value) and "model.patch" in str(error.value)
    with pytest.raises(ConfigError):
        patch.patchify(jnp.zeros((1, 3, 5, 4, 2)), (1, 2, 2))
