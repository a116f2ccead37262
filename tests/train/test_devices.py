"""The real steps of the transformer and of the autoencoder with its critic, on one device and on eight, on the same
batches."""
import fabricated
import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from configs import smoke
from sora_jax import mesh
from sora_jax.train import loop, state

UPDATES, ACROSS = 20, 1e-5
SLOPES = 1e-4  # Adam divides by the root of its second moment, which magnifies rounding where gradients are near zero


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


def updated(folder, **sizes):
    """First weights, weights and losses after three updates of an autoencoder with a critic, on frames large enough for
    the weight gradient of the CPU."""
    config = smoke.get_config("vae")
    config.data.crop, config.data.crop_frames = 32, 3
    config.objective.critic_weight = 0.1
    config.train.batch = 8
    config.mesh.update(sizes)
    job = loop.Job(config, folder / "run")
    current, losses = state.initial(job.make, job.tx, job.mesh), []
    begun = mesh.fetch(current).params
    for k in range(3):
        current, scalars = job.update(current, job.loaders[0].batch(k), jax.numpy.float32(1e-3))
        losses.append(float(scalars["loss"]))
    job.writer.close()
    return begun, mesh.fetch(current).params, losses


def test_eight_devices_train_the_autoencoder_and_critic_that_one_does(tmp_path):
    (begun, one, first), (_, many, last) = (updated(tmp_path / str(count), data=count) for count in (1, 8))
    np.testing.assert_allclose(last, first, rtol=ACROSS)
    assert set(one) == {"encoder", "decoder", "mean", "std", "critic"} and first[0] != first[2]
    moved = jax.tree.map(lambda a, b: np.abs(np.asarray(a) - b).max(), one, begun)
    for part in ("encoder", "decoder", "critic"):
        assert min(jax.tree.leaves(moved[part])) > SLOPES, part
    for a, b in zip(jax.tree.leaves(many), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(a, b, rtol=SLOPES, atol=SLOPES)
