"""Each kind of guidance does what its equation says, on numbers and toys where the answer is known."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion.guidance import Guidance, combine, guide, guide_both, project, rescale
from sora_jax.types import ConfigError

CLOSE = 1e-5


@pytest.fixture
def three(key):
    """Three predictions `b n p` and the tokens of them that are unknown."""
    one, other, third = jax.random.normal(key, (3, 2, 6, 4))
    return 2.0 * one + 0.5, other, third, jnp.arange(6)[None] + jnp.zeros((2, 1), int) > 1


def test_guidance_extrapolates():
    one, other = jnp.array([1.0, 2.0]), jnp.array([0.0, 1.0])
    np.testing.assert_array_equal(guide(one, other, 1.0), one)
    np.testing.assert_array_equal(guide(one, other, 0.0), other)
    np.testing.assert_array_equal(guide(one, other, 3.0), [3.0, 4.0])


def test_two_scales_are_the_sum_of_two_directions():
    """Three predictions that are unit vectors show the weights themselves."""
    full, uncaptioned, neither = jnp.eye(3)
    np.testing.assert_allclose(guide_both(full, uncaptioned, neither, 3.0, 2.0), [3.0, 2.0 - 3.0, 1.0 - 2.0])
    np.testing.assert_allclose(guide_both(full, uncaptioned, neither, 3.0, 1.0), guide(full, uncaptioned, 3.0))
    np.testing.assert_allclose(guide_both(full, uncaptioned, neither, 0.0, 0.0), neither)


def test_rescaling_gives_back_the_spread_of_the_unknown(three):
    conditional, other, _, unknown = three
    guided = guide(conditional, other, 5.0)
    for share, want in ((1.0, lambda i: conditional[i, 2:].std()), (0.0, lambda i: guided[i, 2:].std()),
                        (0.25, lambda i: 0.25 * conditional[i, 2:].std() + 0.75 * guided[i, 2:].std())):
        got = rescale(guided, conditional, share, unknown)
        for i in range(2):
            assert float(got[i, 2:].std()) == pytest.approx(float(want(i)), rel=CLOSE)
            ratio = got[i] / guided[i]
            np.testing.assert_allclose(ratio, jnp.full_like(ratio, ratio[0, 0]), rtol=CLOSE)


def test_the_optimised_scale_leaves_nothing_along_the_unconditional(three):
    conditional, other, _, unknown = three
    got = project(conditional, other, unknown)
    rest = jnp.where(unknown[:, :, None], conditional - got, 0.0)
    assert jnp.abs((rest * other).sum(axis=(1, 2))).max() < 1e-4 < jnp.abs(rest).max()
    np.testing.assert_allclose(project(-3.0 * other, other, unknown), -3.0 * other, rtol=CLOSE)
    assert (project(conditional, jnp.zeros_like(other), unknown) == 0).all(), "a fresh model predicts nothing"


def test_a_rule_says_what_is_combined(three):
    conditional, other, third, unknown = three
    plain = guide(conditional, other, 3.0)
    np.testing.assert_array_equal(combine(Guidance(), 3.0, unknown, conditional, other), plain)
    np.testing.assert_array_equal(combine(Guidance(rescale=0.7), 3.0, unknown, conditional, other),
                                  rescale(plain, conditional, 0.7, unknown))
    np.testing.assert_array_equal(combine(Guidance(guidance_known=2.0), 3.0, unknown, conditional, other, third),
                                  guide_both(conditional, other, third, 3.0, 2.0))
    zero_star = combine(Guidance(zero_star=True), 3.0, unknown, conditional, other)
    np.testing.assert_array_equal(zero_star, guide(conditional, project(conditional, other, unknown), 3.0))


@pytest.mark.parametrize("wrong, words", [
    ({"rescale": 1.5}, "sampler.rescale=1.5"), ({"interval": (0.5, 0.2)}, "sampler.interval=(0.5, 0.2) must be two"),
    ({"interval": (0.5, 1.5)}, "two times"), ({"zero_steps": -1}, "sampler.zero_steps=-1"),
    ({"zero_star": True, "guidance_known": 2.0}, "set one of them off"),
])
def test_what_makes_no_sense_is_refused(wrong, words):
    with pytest.raises(ConfigError) as error:
        Guidance(**wrong)
    assert words in str(error.value)
