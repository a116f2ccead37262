"""Mesh: sizes are checked in words; every weight gets a sharding; nothing is split that does not divide."""
import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

from sora_jax import mesh
from sora_jax.nn import axes
from sora_jax.types import ConfigError


def test_sizes_take_what_is_left():
    assert dict(mesh.make().shape) == {"data": 8, "fsdp": 1, "sequence": 1, "tensor": 1}
    assert dict(mesh.make(fsdp=2, tensor=2).shape) == {"data": 2, "fsdp": 2, "sequence": 1, "tensor": 2}
    assert mesh.make(data=1, fsdp=-1).shape["fsdp"] == 8
    assert mesh.make(data=1).size == 1


@pytest.mark.parametrize("sizes, words", [
    ({"data": 16}, "mesh.data=16 needs 16 devices, 8 found"),
    ({"fsdp": 3}, "mesh.fsdp=3 does not divide the 8 devices"),
    ({"fsdp": -1}, "both -1"),
    ({"tensor": 0}, "mesh.tensor=0 is not a size"),
])
def test_bad_sizes_are_one_line(sizes, words):
    with pytest.raises(ConfigError, match=words) as caught:
        mesh.make(**sizes)
    assert "\n" not in str(caught.value)


def test_rules_cover_every_axis_name():
    assert set(mesh.RULES) == set(axes.NAMES)


def test_spec_leaves_whole_what_does_not_divide_and_uses_an_axis_once():
    grid = mesh.make(data=1, fsdp=4, tensor=2)
    assert mesh.spec((16, 6), ("embed", "mlp"), grid) == P("fsdp", "tensor")
    assert mesh.spec((6, 16), ("in", "out"), grid) == P(None, "fsdp")
    assert mesh.spec((16, 16), ("in", "out"), grid) == P("fsdp", None)
    assert mesh.spec((3, 16, 7), ("layers", "embed", "heads"), grid) == P(None, "fsdp", None)
    with pytest.raises(ConfigError, match="layers"):
        mesh.spec((3, 16, 8), ("embed", "heads"), grid)
    with pytest.raises(ConfigError, match="'nope'"):
        mesh.spec((8,), ("nope",), grid)


class Two(nnx.Module):
    def __init__(self, rngs):
        self.kernel = axes.param(rngs(), nnx.initializers.normal(), (8, 4), ("embed", "mlp"))
        self.stack = nnx.List([nnx.Param(jax.numpy.zeros(3))])


def test_shardings_follow_the_state():
    grid = mesh.make(data=1, fsdp=4, tensor=2)
    state = nnx.state(nnx.eval_shape(lambda: Two(nnx.Rngs(0))), nnx.Param)
    found = mesh.shardings(state, grid)
    assert jax.tree.structure(found) == jax.tree.structure(nnx.to_pure_dict(state))
    assert found["kernel"].spec == P("fsdp", "tensor") and found["stack"][0].spec == P()


def test_batch_is_split_over_data_and_fsdp_and_fetched_whole():
    grid = mesh.make(data=2, fsdp=4)
    x = np.arange(16.0).reshape(8, 2)
    y = jax.device_put(x, mesh.batch_sharding(grid))
    assert y.addressable_data(0).shape == (1, 2)
    np.testing.assert_array_equal(mesh.fetch({"y": y})["y"], x)
