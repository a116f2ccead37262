"""Budgets: published counts come out of the formulas, the plan shows where the cost goes, estimates are estimates."""
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from sora_jax.models import dit, text
from sora_jax.scaling import budget
from sora_jax.types import ConfigError

SHAPES = {"S": (12, 384), "B": (12, 768), "L": (24, 1024), "XL": (28, 1152)}
PUBLISHED_GFLOPS = {"S": (0.36, 1.41, 6.06), "B": (1.42, 5.56, 23.01), "L": (5.01, 19.70, 80.71),
                    "XL": (7.39, 29.05, 118.64)}  # Peebles and Xie 2023, table 4, patch 8, 4, 2 on a 32 x 32 x 4 latent
PUBLISHED_PARAMS = {"S": 33, "B": 130, "L": 458, "XL": 675}  # millions
ROUNDING, SLACK = 0.005, 2e-4
LADDER = {  # depth, width: training FLOPs of a clip at 80 and at 320 tokens of 16 elements, each over 6 N T
    (2, 32): (1.73e7, 1.46, 1.28e8, 2.71), (3, 48): (5.19e7, 1.30, 3.39e8, 2.13),
    (4, 64): (1.16e8, 1.23, 6.97e8, 1.85), (5, 96): (3.05e8, 1.15, 1.66e9, 1.56),
    (6, 128): (6.31e8, 1.11, 3.22e9, 1.42), (8, 192): (1.83e9, 1.08, 8.70e9, 1.28),
    (8, 256): (3.20e9, 1.06, 1.46e10, 1.21)}
PEAK, KEPT = 0.25, 0.03


@pytest.mark.parametrize("name", SHAPES)
def test_published_counts_of_dit(name):
    depth, width = SHAPES[name]
    for patch, published in zip((8, 4, 2), PUBLISHED_GFLOPS[name], strict=True):
        macs = budget.published_dit_macs(depth, width, (32 // patch) ** 2, 4 * patch**2)
        assert abs(macs / 1e9 - published) <= ROUNDING + SLACK * published
    params = budget.params_by_group(depth, width, 16, out=32, classes=1001)
    assert round(sum(params.values()) / 1e6) == PUBLISHED_PARAMS[name]
    assert params["adaln"] / sum(params.values()) == pytest.approx(1 / 3, abs=0.01)


@pytest.mark.parametrize("shape", LADDER)
def test_training_flops_of_the_ladder(shape):
    for tokens, published, ratio in zip((80, 320), LADDER[shape][::2], LADDER[shape][1::2], strict=True):
        flops = budget.dit_training_flops(budget.dit_forward_flops(*shape, tokens, 16))
        assert flops == pytest.approx(published, rel=0.006)
        assert flops / (72 * shape[0] * shape[1] ** 2 * tokens) == pytest.approx(ratio, abs=0.006)


def test_the_model_counts_as_the_formula_does():
    config = dit.Config(width=64, depth=3, heads=4)
    ours, theirs = budget.dit_forward_flops(3, 64, 80, config.elements), dit.flops(config, text.Config(), 80, levels=1)
    assert {name: theirs[name] for name in ("attention_scores", "blocks", "head")} == {
        name: ours[name] for name in ("attention_scores", "blocks", "head")}


def make(**changes):
    given = {"tokens": 80, "clips": 1000, "batch": 32, "width": 64, "depth": 4, "mesh": {}, "dtype": "float32"}
    counts, forward = budget.params_by_group(4, 64, 64), budget.dit_forward_flops(4, 64, 80, 64)
    return budget.Budget.make(counts, forward, **{**given, **changes})


def test_totals_are_exact_integers():
    plan = make()
    assert plan.flops == 1000 * 3 * sum(plan.forward_flops.values()) and isinstance(plan.flops, int)
    assert plan.updates == 32 and budget.updates_for(1024, 32) == 32 and budget.updates_for(1025, 32) == 33
    assert plan.n_core == 12 * 4 * 64**2 and plan.n_total == sum(plan.params.values())
    assert budget.clips_for(plan.flops, plan.flops_per_clip) == 1000
    assert budget.clips_for(plan.flops - 1, plan.flops_per_clip) == 999
    assert plan.hours(plan.flops / 3600) == 1.0


def test_bytes_follow_the_mesh():
    one, sharded = make(), make(mesh={"data": 2, "fsdp": 4, "sequence": 2})
    state = ("weights", "gradients", "moments", "ema")
    assert sum(one.bytes_per_device[name] for name in state) == 20 * one.n_total
    assert sharded.devices == 16
    for name in state:
        assert sharded.bytes_per_device[name] == one.bytes_per_device[name] / 4
    for name in ("activations_kept", "activations_peak"):
        assert sharded.bytes_per_device[name] == one.bytes_per_device[name] / 16
    assert make(dtype="bfloat16").bytes_per_device["activations_kept"] * 2 == one.bytes_per_device["activations_kept"]
    assert make(ema=2).bytes_per_device["ema"] == 2 * one.bytes_per_device["ema"]
    kept = [make(remat=remat).bytes_per_device["activations_kept"] for remat in ("full", "dots", "none")]
    assert kept == sorted(kept) and kept[0] * 12 == kept[1]


def test_the_table_names_every_cost():
    table = make(mesh={"fsdp": 2}).table(1e11)
    lines = table.splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == ["parameters", "forward", "run", "bytes"]
    assert any("attention_scores (N^2 d)" in line and "6.554 MFLOP" in line and "16.6 %" in line for line in lines)
    for words in ("tokens per clip", "updates", "training FLOPs", "hours", "moments", "activations_kept",
                  "2 devices", "1.26 x 6 n_core tokens", "100 GFLOP/s"):
        assert words in table, words
    assert "hours" not in make().table()


@pytest.mark.parametrize("changes, word", [
    ({"mesh": {"data": -1}}, "mesh.data=-1"), ({"mesh": {"model": 2}}, "mesh.model"), ({"dtype": "fp8"}, "dtype"),
    ({"remat": "all"}, "model.remat"), ({"clips": 0}, "clips=0"), ({"mesh": {"data": 3}}, "train.batch=32")])
def test_a_budget_that_cannot_be_names_the_field(changes, word):
    with pytest.raises(ConfigError, match=word):
        make(**changes)
    with pytest.raises(ConfigError, match="flops_per_second"):
        make().hours(0.0)


def allocated(depth, clips=4, tokens=80, width=128):
    """Bytes that XLA sets aside for the gradient of a DiT of this depth."""
    config = dit.Config(width=width, depth=depth, heads=4, remat="dots")
    with nnx.use_eager_sharding(False):
        graph, params = nnx.split(nnx.eval_shape(lambda: dit.build(
            config, rngs=nnx.Rngs(0), text_encoder=text.build(text.Config(depth=1), rngs=nnx.Rngs(0)))))

    def loss(params, x, states):
        b, n, _ = x.shape
        places, level = jnp.zeros((b, n, 3)), jnp.zeros((b, n), jnp.int32)
        model = nnx.merge(graph, nnx.State(params))
        known = jnp.ones(states.shape[:2], bool)
        return (model(x, places, jnp.zeros((b, 1)), level, None, None, text_states=(states, known)) ** 2).mean()

    shapes = [jax.ShapeDtypeStruct((clips, tokens, config.elements), jnp.float32),
              jax.ShapeDtypeStruct((clips, 32, 128), jnp.float32)]
    compiled = jax.jit(jax.grad(loss)).lower(nnx.to_pure_dict(params), *shapes).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_activations_are_near_what_xla_allocates():
    known = {"clips": 4, "tokens": 80, "width": 128, "dtype": "float32", "remat": "dots", "text_tokens": 32, "heads": 4}
    shallow, deep = allocated(2), allocated(5)
    estimate = budget.activation_bytes(depth=5, **known)
    assert sum(estimate.values()) == pytest.approx(deep, rel=PEAK)
    assert estimate["activations_kept"] / 5 == pytest.approx((deep - shallow) / 3, rel=KEPT)
