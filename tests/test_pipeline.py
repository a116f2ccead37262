"""Captions to video with the committed weights: repeatable, of any size, from a picture, and true to the words."""
import pathlib

import numpy as np
import pytest

from sora_jax import judge, pipeline, video
from sora_jax.datasets import physics
from sora_jax.types import ConfigError, InputError

ROOT = pathlib.Path(__file__).resolve().parents[1]
MODEL = ROOT / "experiments" / "001_first_curve"
STEPS, ASKED, CLIPS, COLOUR_FLOOR = 12, 16, 8, 0.5  # 0.69 was measured; a constant answer is right one time in eight


@pytest.fixture(scope="module")
def pipe():
    return pipeline.Pipeline.open(MODEL)


def test_the_same_seed_draws_the_same_bits_and_another_does_not(pipe):
    a, b, c = (pipe.sample(["a red circle moves right"], seed=seed, steps=4) for seed in (3, 3, 4))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_it_keeps_its_word_on_captions_it_never_saw(pipe):
    asked = judge.unseen(ASKED, ("uniform",), pipe)
    drawn, found = judge.adherence(pipe, asked, seed=0, steps=STEPS)
    assert drawn.shape == (ASKED, 17, 64, 64, 3) and found["colour"]["right"] >= COLOUR_FLOOR
    assert judge.by_family(drawn, asked, pipe) == {"uniform": found}
    shuffled = [prompt._replace(specification=asked[i - 3].specification) for i, prompt in enumerate(asked)]
    wrong = judge.physics.adherence(drawn, [prompt.specification for prompt in shuffled], 8.0)
    assert wrong["all"]["right"] < found["all"]["right"], "another prompt's answer must score worse"


def test_families_share_the_captions_and_a_small_grammar_gives_all_it_has(pipe):
    families = ("uniform", "collision", "composition")
    asked = judge.unseen(80, families, pipe)
    shares = [sum(prompt.truth["family"] == family for prompt in asked) for family in families]
    assert sum(shares) == len({prompt.text for prompt in asked}) == 80
    assert 0 < shares[1] < 27 <= shares[2] <= shares[0] <= shares[2] + 1, "the others share what collision lacks"
    with pytest.raises(ConfigError, match="--prompts=500: the grammar has"):
        judge.unseen(500, ("collision",), pipe)
    with pytest.raises(ConfigError, match="'black', which is not told from the slab"):
        judge.unseen(8, ("occluder",), pipe, ("black", "red"))


def test_prompts_are_of_the_world_and_not_of_the_frame(pipe):
    wide = pipe._replace(config=pipe.config.copy_and_resolve_references())
    with wide.config.unlocked():
        wide.config.data.aspect = 2.0
    assert {prompt.truth["aspect"] for prompt in judge.unseen(4, ("uniform",), wide)} == {2.0}


def test_motion_is_measured_in_and_out_of_distribution(pipe):
    found = judge.motion(pipe, CLIPS, steps=STEPS, guidance=1.0, batch=CLIPS)
    assert set(found) == {f"velocity_{split}{rest}" for split in judge.MOTIONS for rest in ("", "_se", "_lost")}
    assert found["velocity_id"] < found["velocity_ood_speed"], "a trained speed is continued better than another"
    floors = judge.velocity(pipe, CLIPS, "ood_speed", steps=STEPS, guidance=1.0, batch=CLIPS)
    assert floors["model"]["mean"] == pytest.approx(found["velocity_ood_speed"], rel=1e-3)
    assert floors["parser_floor"]["mean"] < floors["vae_floor"]["mean"] < floors["model"]["mean"]


def test_a_picture_becomes_the_first_frame(pipe):
    clip = physics.source(physics.Config(families=("uniform",), split="val"))[0]
    still = np.broadcast_to(clip.video[:1], clip.video.shape)[None]
    known = np.arange(pipe.latent_shape(17, 64, 64)[0]) == 0
    drawn = pipe.sample([clip.caption], known=known, clips=still, steps=STEPS)
    kept = pipeline.decode(pipe.vae, pipeline.encode(pipe.vae, still))
    np.testing.assert_array_equal(drawn[:, 0], kept[:, 0])
    assert (drawn[:, -1] != kept[:, -1]).any()


@pytest.mark.parametrize("size", [(9, 64, 64), (17, 48, 96), (1, 64, 64)])
def test_other_sizes_than_the_trained_one(pipe, size):
    assert pipe.sample(["a blue square moves left"], size=size, steps=2).shape == (1, *size, 3)


def test_what_cannot_be_drawn_is_refused_in_words(pipe):
    with pytest.raises(ConfigError, match="data.frames=16"):
        pipe.sample(["a circle"], size=(16, 64, 64))
    with pytest.raises(InputError, match="--prompt is empty"):
        pipe.sample(["  "])
    with pytest.raises(InputError, match="go together"):
        pipe.sample(["a circle"], known=np.ones(5, bool))


def test_another_autoencoder_is_refused(tmp_path, pipe):
    from sora_jax import weights

    params, meta = weights.load_weights(ROOT / "experiments" / "000_autoencoder" / "weights.safetensors")
    params["std"] = params["std"] * 1.001
    weights.save_weights(tmp_path / "other.safetensors", params, meta)
    with pytest.raises(InputError, match="trained on the latents"):
        pipeline.Pipeline.open(MODEL, tmp_path / "other.safetensors")


def test_pixels_survive_a_round_trip_through_latents(pipe):
    clips, _, _ = physics.source(physics.Config(split="val")).batch(range(4))
    back = pipeline.decode(pipe.vae, pipeline.encode(pipe.vae, clips))
    error = ((back.astype(float) - clips) ** 2).mean()
    assert 10 * np.log10(255**2 / error) > 30
    assert video.contact_sheet([clips[0], back[0]]).ndim == 3


def test_fields_of_the_sampler_can_be_changed(pipe):
    prompt, how = ["a red circle moves right"], {"steps": 3, "sampler": "unipc"}
    plain, changed = (pipe.sample(prompt, **how, changes=fields) for fields in ({}, {"grid": "karras", "rescale": 0.7}))
    assert (plain != changed).any()
    for fields, words in (({"resacle": 0.7}, "did you mean 'rescale'"), ({"eta": 0.5}, "unipc has no such choice"),
                          ({"zero_steps": 3}, "leaves nothing of sampler.steps=3")):
        with pytest.raises(ConfigError, match=words):
            pipe.sample(prompt, **how, changes=fields)


def test_another_run_guides_if_it_was_trained_alike(pipe):
    """A run that guides itself has nothing to add, whatever the scale."""
    prompt = ["a red circle moves right"]
    alone, guided = (pipe.sample(prompt, steps=2, guidance=scale, guide=pipe).astype(int) for scale in (1.0, 4.0))
    assert np.abs(alone - guided).max() <= 1
    foreign = pipe._replace(config=pipe.config.copy_and_resolve_references())
    foreign.config.model.patch = (1, 1, 1)
    with pytest.raises(InputError, match="the guiding run has model.patch"):
        pipe.sample(prompt, guide=foreign)
