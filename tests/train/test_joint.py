"""Clips and one-frame clips in one update, and a run that begins with another's weights."""
import fabricated
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from configs import smoke
from sora_jax import build, checkpoint, loader, registry, sources, validation, weights
from sora_jax.diffusion.joint import Joint
from sora_jax.scaling import identity
from sora_jax.scaling import records as ledger
from sora_jax.train import loop
from sora_jax.types import ConfigError, InputError

IMAGES = 2


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Latents of clips, and of clips of one frame."""
    root = tmp_path_factory.mktemp("latents")
    return fabricated.latents(root / "clips"), fabricated.latents(root / "images", frames=1)


def config_of(folders, clips=80):
    config = smoke.get_config("dit")
    config.data.path, config.data.images = map(str, folders)
    config.train.clips, config.train.images = clips, IMAGES
    return config


@pytest.fixture(scope="module")
def finished(folders, tmp_path_factory):
    """(config, folder, records) of a run on both."""
    config, folder = config_of(folders), tmp_path_factory.mktemp("joint")
    return config, folder, loop.run(config, folder)


def test_the_loss_is_the_mean_of_both(key):
    objective = registry.load("objectives", "flow").Objective()
    clips = tiny.batch()
    images = clips._replace(x=clips.x[:, :1])
    loss, scalars = Joint(objective).loss(tiny.fresh(), (clips, images), key)
    keys = jax.random.split(key)
    apart = [objective.loss(tiny.fresh(), batch, k)[0] for batch, k in zip((clips, images), keys, strict=True)]
    np.testing.assert_allclose(loss, sum(apart) / 2, rtol=1e-6)
    np.testing.assert_allclose([scalars["loss_clips"], scalars["loss_images"]], apart, rtol=1e-6)


def test_both_are_counted(finished):
    config, _, found = finished
    clip, image = (sum(build.forward_flops(plain).values()) for plain in alone(config))
    for record in found:
        assert record["images"] == IMAGES * record["clips"] and record["started_from"] is None
        assert record["flops"] == 3 * (clip + IMAGES * image) * record["clips"]
        assert record["tokens"] == record["clips"] * (12 + IMAGES * 4) and record["tokens_per_clip"] == 12


def alone(config):
    """The config without one-frame clips, with its clips and with those in their place."""
    plain = build.from_json(build.to_json(config))
    plain.train.images, plain.data.images = 0, ""
    return plain, build.one_frame(plain)


def test_one_frame_clips_change_what_is_learned(finished, folders, tmp_path):
    config, folder, _ = finished
    other = build.from_json(build.to_json(config))
    other.train.images = 1
    loop.run(other, tmp_path)
    one, two = (weights.load_weights(path / "weights.safetensors")[0] for path in (folder, tmp_path))
    assert not all(jax.tree.leaves(jax.tree.map(np.array_equal, one, two)))


def test_streams_of_both_start_where_they_are_told(folders):
    config = config_of(folders)
    mesh = build.mesh(config)
    loaders = [loader.Loader(source, batch=size, seed=3, mesh=mesh, collate=sources.training_source(config)[1])
               for source, size in ((sources.training_source(config)[0], 8), (sources.image_source(config), 16))]
    both = loader.together(loaders, 2)
    for k in (2, 3):
        for given, each in zip(next(both), loaders, strict=True):
            np.testing.assert_array_equal(given.x, each.batch(k).x)
    both.close()
    single = loader.together(loaders[:1], 1)
    np.testing.assert_array_equal(next(single).x, loaders[0].batch(1).x)
    single.close()


def test_a_run_begins_with_the_weights_it_names(finished, folders, tmp_path):
    config, folder, found = finished
    later = build.from_json(build.to_json(config))
    later.train.start = str(folder)
    job = loop.Job(later, tmp_path / "job")
    first, (saved, _) = job.first(), weights.load_weights(folder / "weights.safetensors")
    for part in (first.params, first.ema):
        for name, leaf in weights.named_leaves(part).items():
            np.testing.assert_array_equal(leaf, weights.named_leaves(saved)[name])
    assert int(first.step) == 0
    job.update(first, tuple(each.batch(0) for each in job.loaders), jnp.float32(1e-3))  # both parts are donated
    records = loop.run(later, tmp_path / "run")
    assert {record["started_from"] for record in records} == {found[-1]["id"]}
    with pytest.raises(InputError, match="began from the weights of"):
        ledger.points(records)


@pytest.mark.parametrize("fields, says", [
    ({"train.images": 0}, "train.images=0 and data.images=.*give both"),
    ({"data.images": ""}, "train.images=2 and data.images=''"),
    ({"train.images": -1}, "train.images=-1"),
])
def test_half_a_request_is_refused(folders, fields, says):
    config = config_of(folders)
    config.update_from_flattened_dict(fields)
    with pytest.raises(ConfigError, match=says):
        validation.validate(config)


def test_what_does_not_fit_is_refused(finished, folders, tmp_path):
    config, folder, _ = finished
    swapped = config_of(folders)
    swapped.data.images = str(folders[0])
    with pytest.raises(ConfigError, match=r"the latents in .*clips are \(3, 4, 4, 16\)|make \(1, "):
        loop.Job(swapped, tmp_path / "swapped")
    foreign = config_of(folders)
    foreign.data.images = str(fabricated.latents(tmp_path / "foreign", frames=1, vae_hash="another"))
    with pytest.raises(InputError, match="data.images=.* of autoencoder another, data.path those of fabricated"):
        loop.Job(foreign, tmp_path / "job")
    wider = config_of(folders)
    wider.model.width, wider.train.start = 32, str(folder)
    with pytest.raises(ConfigError, match="the config asks for"):
        loop.Job(wider, tmp_path / "wider")
    lost = config_of(folders)
    lost.train.start = str(tmp_path / "nothing")
    with pytest.raises(InputError, match="nothing: no such file or folder"):
        loop.Job(lost, tmp_path / "lost")
    assert checkpoint.load_for_inspection(folder).config.train.images == IMAGES


def test_the_new_fields_do_not_rename_old_runs():
    config = smoke.get_config("dit").to_dict()
    old = {part: {name: value for name, value in fields.items() if f"{part}.{name}" not in identity.NEUTRAL}
           if isinstance(fields, dict) else fields for part, fields in config.items()}
    assert identity.run_id(old) == identity.run_id(config)
    for path in identity.NEUTRAL:
        part, name = path.split(".")
        assert identity.run_id({**config, part: {**config[part], name: "other"}}) != identity.run_id(old), path
