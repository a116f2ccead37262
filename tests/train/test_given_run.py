"""A run on the states of a published encoder: from captions to its record and a sample, and what it refuses."""
import shutil

import fabricated
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import worded

from configs import smoke
from sora_jax import (
    build,
    captions,
    checkpoint,
    costs,
    generate,
    measure,
    pipeline,
    provenance,
    sources,
    states,
    validation,
)
from sora_jax.train import loop
from sora_jax.types import ConfigError, InputError

LENGTH = 5


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Latents, and the states of their captions."""
    root = tmp_path_factory.mktemp("given")
    captions.keep(worded.encoder(), fabricated.WORDS, LENGTH, root / "states")
    return fabricated.latents(root / "latents"), root / "states"


def config_of(folders):
    config = smoke.get_config("dit")
    config.data.path, config.data.states = map(str, folders)
    config.text.name, config.text.width, config.text.length = "given", worded.WIDTH, LENGTH
    config.train.clips, config.train.batch = 40, 4
    return config


def test_states_stand_for_bytes_in_what_is_read(folders):
    source = sources.dataset(config_of(folders))
    for index in (0, 3, 6):
        item = source[index]
        made, mask = captions.encode(worded.encoder(), [fabricated.WORDS[index % 4]], LENGTH)
        np.testing.assert_allclose(item["text"], made[0], atol=1e-5)
        np.testing.assert_array_equal(item["mask"], mask[0])
    assert sources.validation(config_of(folders)).text.shape[1:] == (LENGTH, worded.WIDTH)


@pytest.mark.parametrize("packed", [False, True])
def test_a_run_reads_them(folders, tmp_path, packed):
    config = config_of(folders)
    if packed:
        config.train.pack_tokens, config.train.pack_clips = 2 * build.tokens_per_clip(config), 2
    validation.validate(config)
    assert np.isfinite(loop.run(config, tmp_path)[-1]["val_loss"])
    opened = checkpoint.load_for_inspection(tmp_path)
    text, mask = map(jnp.asarray, pipeline.tokens(opened.config, fabricated.WORDS[:2]))
    assert text.shape == (2, LENGTH, worded.WIDTH) and mask.any(axis=1).all()
    options = {"shape": build.latent_shape(config), "steps": 2, "guidance": 2.0, "key": jax.random.key(0)}
    drawn = [generate.generate(opened.model, build.objective(config), build.sampler(config), text=states, mask=mask,
                               **options) for states in (text, -text)]
    assert np.isfinite(drawn[0]).all() and np.abs(drawn[0] - drawn[1]).max() > 0
    with pytest.raises(InputError, match="no states of 1 captions of the prompts .*, such as 'a cat'.* --prompts"):
        pipeline.tokens(opened.config, ["a cat"])


@pytest.mark.parametrize("field, value, error, message", [
    ("text.width", 12, ConfigError, "text.width=12, but the states in .* have 8 numbers"),
    ("text.length", 6, InputError, "no states of 4 captions of .*latents in 6 tokens, such as 'a red circle moves ri"),
    ("data.states", "/nowhere", InputError, "no states of captions in /nowhere .*launch.captions"),
    ("data.states", "", ConfigError, "text.name='given' reads states of captions; give data.states"),
    ("text.name", "text", ConfigError, "data.states is read by text.name='given'")])
def test_states_that_do_not_fit_are_refused(folders, field, value, error, message):
    config = config_of(folders)
    part, name = field.split(".")
    config[part][name] = value
    with pytest.raises(error, match=message):
        sources.training_source(config)


def test_a_plan_has_no_encoder_and_is_measured_on_states(folders):
    config = config_of(folders)
    assert measure.random_batch(config).text.shape == (4, LENGTH, worded.WIDTH)
    assert measure.run(config, updates=1).seconds > 0
    own = smoke.get_config("dit")
    own.train.batch = config.train.batch
    held = [sum(n for name, n in costs.budget(each).bytes_per_device.items() if "activations" in name)
            for each in (config, own)]
    assert 0 < held[0] < held[1], "no encoder's activations"


def test_captions_that_nobody_encoded_are_not_asked_for(folders):
    config = config_of(folders)
    config.eval.velocity = 2
    with pytest.raises(ConfigError, match="eval.velocity=2 asks with captions that have no states"):
        validation.validate(config)


def test_a_torn_file_is_named(folders, tmp_path):
    kept, _ = captions.keep(worded.encoder(), ["a"], LENGTH, tmp_path / "torn")
    kept.path("a").write_bytes(b"")
    with pytest.raises(InputError, match="states of 'a' in .*torn are torn or gone; run .*launch.captions"):
        states.opened(tmp_path / "torn", LENGTH)("a")


def test_a_run_keeps_to_the_encoder_it_began_with(folders, tmp_path):
    config, mine = config_of(folders), tmp_path / "states"
    shutil.copytree(folders[1], mine)
    config.data.states = str(mine)
    loop.run(config, tmp_path / "run")
    want = states.load(mine).hash
    assert checkpoint.load_for_inspection(tmp_path / "run").meta["text_hash"] == want

    other = worded.encoder()._replace(weights="others")
    shutil.rmtree(mine)
    captions.keep(other, fabricated.WORDS, LENGTH, mine)
    assert states.load(mine).hash != want
    (tmp_path / "run" / "records.jsonl").unlink()
    with pytest.raises(InputError, match=f"on caption states of encoder {want}, data.states holds .*others"):
        loop.run(config, tmp_path / "run")
    with pytest.raises(InputError, match=f"on caption states of encoder {want}, data.states holds .*others"):
        pipeline.Pipeline.open(tmp_path / "run")
    config.train.start = str(tmp_path / "run")
    with pytest.raises(InputError, match="train.start=.* was trained on caption states of encoder"):
        loop.run(config, tmp_path / "next")
    provenance.check({"vae_hash": "a"}, {"vae_hash": "a", "text_hash": "of a run that did not note it"}, "it")
