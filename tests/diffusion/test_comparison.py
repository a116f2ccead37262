"""Objectives are compared at the same signal-to-noise ratio: one network in any of their clothes measures the same."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from sora_jax.diffusion import comparison, matching
from sora_jax.diffusion.path import Flow, LinearVP, split, target
from sora_jax.evals import loss
from sora_jax.objectives import ddpm, edm, flow

FLOW = flow.Objective()
OTHERS = {"eps": ddpm.Objective(), "v": ddpm.Objective(kind="v"), "zero": ddpm.Objective(kind="v", zero_terminal=True),
          "cosine": ddpm.Objective(schedule="cosine"), "edm": edm.Objective(), "x0": flow.Objective(kind="x0")}
TIMES = jnp.array([0.05, 0.5, 0.9])
SAME = 5e-3
CLIPS = tiny.batch()
EPS = jax.random.normal(jax.random.key(5), CLIPS.x.shape)
TOKENS, NOISE = (tiny.fresh().tokenise(part)[0] for part in (CLIPS.x, EPS))


def dressed(objective):
    """A denoiser that depends on the noisy data and their noise ratio alone, in the clothes of an objective: its input
    is that of the objective's path at the objective's time, its output the objective's kind."""
    path = objective.path

    def model(xt, places, levels, *rest, layout=None):
        t = levels[:, 1]
        alpha, log_snr = path.alpha(t)[:, None, None], path.log_snr(t)[:, None, None]
        x0 = jnp.tanh(xt / alpha) * jax.nn.sigmoid(log_snr) + 0.1
        eps = (xt - alpha * x0) / path.sigma(t)[:, None, None]
        return target(path, objective.kind, x0, eps, t)

    model.tokenise, model.layout = tiny.fresh().tokenise, tiny.fresh().layout
    return model


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("kind", ["x0", "flow"])
def test_the_same_denoiser_has_the_same_error_in_any_clothes(name, kind):
    other = OTHERS[name]
    want, got = (comparison.matched_errors(made, dressed(made), CLIPS, TIMES, EPS, kind) for made in (FLOW, other))
    np.testing.assert_allclose(got, want, rtol=SAME)
    if kind != other.kind:
        own = matching.errors(other, dressed(other), CLIPS, TIMES, EPS)
        assert jnp.abs(own / want - 1).max() > 0.05, "their own instruments are not on one scale"


def test_x0_errors_are_those_of_the_denoiser():
    model = dressed(FLOW)
    xt = TIMES[:, None, None] * NOISE + (1 - TIMES[:, None, None]) * TOKENS
    x0, _ = split(Flow(), "flow", model(xt, None, jnp.stack([0 * TIMES, TIMES], 1)), xt, TIMES)
    got = comparison.matched_errors(FLOW, model, CLIPS, TIMES, EPS)
    np.testing.assert_allclose(got, jnp.mean((x0 - TOKENS) ** 2, axis=(1, 2)), rtol=SAME)


def test_a_path_that_ends_before_is_asked_at_its_end():
    seen = []

    def model(xt, places, levels, *rest, layout=None):
        seen.append(levels[:, 1])
        return jnp.zeros_like(xt)

    model.tokenise, model.layout = tiny.fresh().tokenise, tiny.fresh().layout
    late = comparison.matched_errors(OTHERS["v"], model, CLIPS, jnp.array([0.5, 0.9999, 1.0]), EPS)
    assert jnp.isfinite(late).all() and seen[0].tolist()[1:] == [1.0, 1.0]
    assert LinearVP().log_snr(seen[0][0]) == pytest.approx(0, abs=1e-4)


def test_a_reader_reads_it():
    """The validation loss of a run on the scale of flow runs, from the same triplets: of a flow run it is its own."""
    graph, params = nnx.split(tiny.model())
    plain, matched = (np.asarray(loss.reader(graph, made, CLIPS, times=2, seed=3)(params)) for made in
                      (FLOW, comparison.Matched(FLOW, "flow")))
    np.testing.assert_allclose(matched, plain, rtol=SAME)
