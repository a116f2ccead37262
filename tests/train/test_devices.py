"""The real transformer's step on one device and on eight, twenty updates long, on the same batches."""
import fabricated
import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from configs import smoke
from sora_jax import mesh
from sora_jax.train import loop, state

UPDATES, ACROSS = 20, 1e-5


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A function of mesh sizes: (state, losses, shardings) after twenty updates of the smoke transformer."""
    folder = tmp_path_factory.mktemp("devices")
    fabricated.latents(folder)

    def train(**sizes):
        config = smoke.get_config("dit")
        config.data.path = str(folder)
        config.mesh.update(sizes)
        job = loop.Job(config, folder / "run")
        current, losses = state.initial(job.make, job.tx, job.mesh), []
        for k in range(UPDATES):
            current, scalars = job.update(current, job.loaders[0].batch(k), jax.numpy.float32(job.rate(None)(k)))
            losses.append(float(scalars["loss"]))
        job.writer.close()
        layout = jax.tree.map(lambda leaf: leaf.sharding.spec, current.params)
        return mesh.fetch(current), np.asarray(losses), layout

    return train


@pytest.fixture(scope="module")
def alone(trained):
    return trained(data=1)


@pytest.mark.parametrize("sizes", [{"data": 2, "fsdp": 4}])
def test_eight_devices_train_the_transformer_that_one_does(trained, alone, sizes):
    final, losses, layout = trained(**sizes)
    specs = jax.tree.leaves(layout, is_leaf=lambda leaf: isinstance(leaf, P))
    assert sum("fsdp" in spec for spec in specs) > len(specs) / 3, "little is split"
    assert np.ptp(alone[1]) > 100 * ACROSS, "losses that stand still are always equal"
    np.testing.assert_allclose(losses, alone[1], rtol=ACROSS)
    for many, one in ((final.params, alone[0].params), (final.ema, alone[0].ema)):
        for a, b in zip(jax.tree.leaves(many), jax.tree.leaves(one), strict=True):
            np.testing.assert_allclose(a, b, rtol=ACROSS, atol=ACROSS)
    assert final.step == alone[0].step == UPDATES
