"""The critic: one number a patch, causal in time, one frame is a clip, and its cost is what is compiled."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sora_jax.models import critic
from sora_jax.types import ConfigError

CONFIG = critic.Config(patch=2, width=4, depth=2)
SAME, COUNTED = 1e-5, 0.12  # norms and slopes are not counted


@pytest.fixture(scope="module")
def judge():
    return critic.build(CONFIG, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def clip():
    return jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, 5, 8, 12, 3)).astype(np.float32))


def test_what_it_says_of_a_frame_does_not_depend_on_later_ones(judge, clip):
    whole = judge(clip)
    assert whole.shape == (2, 3, 2, 3) and np.std(whole) > 0
    np.testing.assert_allclose(judge(clip[:, :1]), whole[:, :1], atol=SAME)
    np.testing.assert_allclose(judge(clip[:, :3]), whole[:, :2], atol=SAME)
    assert np.abs(judge(clip.at[:, 3].add(0.5)) - whole)[:, 2].max() > SAME


def test_its_cost_is_what_is_compiled():
    wide = critic.Config(width=16, depth=2, conv="taps")
    judge, clip = critic.build(wide, rngs=nnx.Rngs(0)), jnp.zeros((1, 9, 128, 128, 3))
    graph, params = nnx.split(judge)
    program = jax.jit(lambda params, x: nnx.merge(graph, params)(x)).lower(params, clip).compile()
    counted = critic.flops(wide, *clip.shape[1:4])["critic"]
    assert counted % 3 == 0 and program.cost_analysis()["flops"] == pytest.approx(counted, rel=COUNTED)


def test_cells_that_do_not_fill_a_frame_are_refused():
    with pytest.raises(ConfigError, match="critic.patch=4 does not divide frames of 32×30"):
        critic.flops(critic.Config(), 1, 32, 30)
