"""Latents have statistics that were measured, or are not made; the address of a cache says what made it."""
import json

import jax
import numpy as np
import pytest
from flax import nnx

from configs import smoke
from sora_jax import build, checkpoint, collate, encoding, pipeline, sources, weights
from sora_jax.encoding import Options
from sora_jax.types import InputError

UNIT = 1e-3


@pytest.fixture
def fresh(tmp_path):
    """A run folder's weights as a seed draws them: statistics 0 and 1."""
    config = smoke.get_config("vae")
    made = jax.jit(lambda: build.make(config, 0))()
    path = tmp_path / "vae" / "weights.safetensors"
    weights.save_weights(path, nnx.to_pure_dict(nnx.state(made)), {"config": json.loads(build.to_json(config))})
    (path.parent / "config.json").write_text(build.to_json(config))
    return path.parent


def test_what_was_never_measured_is_not_encoded_and_one_command_mends_it(fresh, tmp_path):
    config = smoke.get_config("vae")
    vae, meta = pipeline.autoencoder(fresh)
    with pytest.raises(InputError, match=f"never measured; .*launch.normalise --run={fresh}") as caught:
        encoding.encode(config, vae, {**meta, "place": str(fresh)}, "val", 4, Options(tmp_path / "latents", 4, 4))
    assert "\n" not in str(caught.value) and not (tmp_path / "latents").exists()
    params, about = encoding.normalised(config, checkpoint.load_for_inspection(fresh), 8, 4, "a command")
    made = weights.save_weights(fresh / "weights.safetensors", params, about)
    vae, again = pipeline.autoencoder(fresh)
    assert again["hash"] == made != meta["hash"] == again["statistics"]["weights_before"]
    assert again["statistics"]["clips"] == 8 and again["statistics"]["data"]["name"] == "physics"
    source = sources.dataset(config)
    clips = collate.draw(source, encoding.spread(len(source), 8))[0]
    z = np.asarray(pipeline.encode(vae, clips)).reshape(-1, 4)
    np.testing.assert_allclose(z.mean(0), 0, atol=UNIT)
    np.testing.assert_allclose(z.std(0), 1, atol=UNIT)
    encoding.encode(config, vae, again, "val", 4, Options(tmp_path / "latents", 4, 4))
    stale = {**again, "hash": meta["hash"]}
    with pytest.raises(InputError, match="holds latents with vae_hash"):
        encoding.encode(config, vae, stale, "val", 4, Options(tmp_path / "latents", 4, 4))


def test_the_address_says_what_made_the_latents():
    def named(vae="a", options=Options(""), **data):  # noqa: B008
        config = smoke.get_config("vae")
        config.data.update(data)
        return encoding.address(config, {"hash": vae}, options)

    plain = named()
    assert plain.startswith("a-") and named() == plain == named(quarantine="x", split="val") != named("b")
    others = [named(frames=9), named(fps=4.0), named(seed=1), named(options=Options("", dtype="float32"))]
    assert len({plain, *others}) == 5
    assert named(options=Options("elsewhere", batch=1, shard=2, command="x")) == plain
