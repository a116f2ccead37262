"""A run on packed rows of films and pictures: from its folders to its record, and what it refuses."""
import fabricated
import pytest

from configs import smoke
from sora_jax import build, costs, sources, validation
from sora_jax.scaling import records as ledger
from sora_jax.train import loop
from sora_jax.types import ConfigError


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return (fabricated.latents(tmp_path_factory.mktemp("films")),
            fabricated.latents(tmp_path_factory.mktemp("pictures"), frames=1))


def config_of(folders):
    config = smoke.get_config("dit")
    config.data.path, config.data.native = str(folders[0]), (str(folders[1]),)
    config.train.pack_tokens, config.train.pack_clips = 20, 4
    config.train.clips, config.train.batch = 40, 4
    return config


def test_a_packed_run_is_counted_in_clips_and_tokens(folders, tmp_path):
    config = config_of(folders)
    source, _ = sources.training_source(config)
    assert len(source.lengths) == 2 * fabricated.CLIPS and source.useful > 0.7
    record = loop.run(config, tmp_path)[-1]
    assert record == ledger.validate(record) and record["metrics"]["rows"] == 40
    assert record["clips"] == round(40 * source.clips_per_row)
    assert record["tokens"] == pytest.approx(40 * 20 * source.useful, abs=1)
    assert record["metrics"]["useful_tokens"] == source.useful
    forward = sum(build.forward_flops(config).values())
    assert record["flops"] == 3 * forward * 40 == costs.budget(config).flops
    assert forward > sum(build.forward_flops(smoke.get_config("dit")).values())


@pytest.mark.parametrize("field, value, message", [
    ("train.pack_tokens", 0, "clips of several sizes are trained on in rows; give train.pack_tokens"),
    ("train.pack_tokens", 3, "a row must take a clip of data.path"), ("train.pack_clips", 0, "train.pack_clips=0")])
def test_rows_that_cannot_be_are_refused(folders, field, value, message):
    config = config_of(folders)
    part, name = field.split(".")
    config[part][name] = value
    with pytest.raises(ConfigError, match=message):
        validation.validate(config)


def test_learned_positions_reach_to_the_end_of_a_row(folders):
    config = config_of(folders)
    config.model.positions = "learned"
    assert build.model_config(config)[0].length == 20
    config.train.pack_tokens = 0
    assert build.model_config(config)[0].length == build.tokens_per_clip(config)


@pytest.mark.parametrize("fields", [{"text": "joint"}, {"text": "prefix"}, {"patch": (2, 2, 2)}])
def test_frames_with_times_of_their_own_want_captions_that_are_no_tokens(folders, fields):
    config = smoke.get_config("dit")
    config.objective.levels = "frame"
    validation.check_frames(config)
    config.model.update(fields)
    with pytest.raises(ConfigError, match="objective.levels='frame' needs"):
        validation.check_frames(config)


def test_folders_of_other_autoencoders_do_not_mix(folders, tmp_path):
    config = config_of(folders)
    config.data.native = (str(fabricated.latents(tmp_path, frames=1, vae_hash="another")),)
    with pytest.raises(ConfigError, match="vae_hash 'another', those in .* 'fabricated'; encode them alike"):
        sources.training_source(config)
