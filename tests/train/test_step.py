"""One step, one trainer: the state lies where the table says, and eight devices compute what one does."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from flax import nnx
from jax.sharding import PartitionSpec as P

from sora_jax import mesh
from sora_jax.train import state
from sora_jax.types import Batch

STEPS, ACROSS_DEVICES = 20, 1e-5


def batches(run):
    source = toy.Source()
    for k in range(STEPS):
        items = [source[(8 * k + i) % 40] for i in range(8)]
        stacked = Batch(*(np.stack([item[name] for item in items]) for name in Batch._fields))
        yield jax.device_put(stacked, mesh.batch_sharding(run.mesh))


def train(run):
    current, losses = run.initial(), []
    for batch in batches(run):
        current, scalars = run.step(current, batch)
        losses.append(scalars["loss"])
    return mesh.fetch(current), np.asarray(losses), scalars


@pytest.fixture(scope="module")
def alone():
    return train(toy.run())


@pytest.mark.parametrize("sizes", [{"data": 2, "fsdp": 4}, {"data": 2, "fsdp": 2, "tensor": 2}])
def test_eight_devices_equal_one(alone, sizes):
    many = train(toy.run(**sizes))
    assert alone[1][-1] < 0.6 * alone[1][0], "the toy must learn, or equality says nothing"
    np.testing.assert_allclose(many[1], alone[1], rtol=ACROSS_DEVICES)
    for a, b in zip(jax.tree.leaves(many[0]), jax.tree.leaves(alone[0]), strict=True):
        np.testing.assert_allclose(a, b, atol=ACROSS_DEVICES)


def test_a_step_counts_averages_and_reports(alone):
    final, _, scalars = alone
    assert final.step == STEPS and set(scalars) == {"half", "loss", "grad_norm", "rate"}
    moved = np.abs(final.ema["up"] - final.params["up"]).max()
    assert 1e-4 < moved < 1.0
    assert final.opt[1].count == STEPS


def test_the_first_average_is_the_first_update_and_noise_changes_with_the_step():
    run = toy.run()
    batch = next(batches(run))
    after, first = run.step(run.initial(), batch)
    np.testing.assert_allclose(after.ema["up"], after.params["up"], rtol=1e-6)
    assert np.abs(after.params["up"] - run.initial().params["up"]).max() > 1e-4
    _, later = run.step(run.initial()._replace(step=jnp.int32(5)), batch)
    assert first["loss"] != later["loss"]


def test_everything_is_laid_out_like_its_weight():
    run = toy.run(data=2, fsdp=4)
    found = run.initial()
    for tree in (found.params, found.ema, found.opt[1].mu, found.opt[1].nu):
        assert tree["up"].sharding.spec == P("fsdp", None) and tree["scales"][0].sharding.is_fully_replicated
    described = run.abstract()
    assert jax.tree.structure(described) == jax.tree.structure(found)
    for a, b in zip(jax.tree.leaves(described), jax.tree.leaves(found), strict=True):
        assert (a.shape, a.dtype, a.sharding) == (b.shape, b.dtype, b.sharding)


def test_the_layout_survives_a_step():
    run = toy.run(data=2, fsdp=4)
    after = run.step(run.initial(), next(batches(run)))[0]
    assert after.params["down"].sharding.spec == P(None, "fsdp") == after.opt[1].nu["down"].sharding.spec


def test_first_weights_do_not_depend_on_the_mesh():
    one, many = mesh.fetch(toy.run().initial()), mesh.fetch(toy.run(data=2, fsdp=4).initial())
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_model_with_more_than_weights_is_refused():
    class Counter(nnx.Module):
        def __init__(self):
            self.count = nnx.Variable(jnp.zeros(()))

    with pytest.raises(TypeError, match="nothing else"):
        state.split(Counter)
