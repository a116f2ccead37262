"""What a run costs in parameters, FLOPs, bytes and tokens, from its config alone."""
import jax
from flax import nnx
from ml_collections import ConfigDict

from sora_jax import adapted, build, validation
from sora_jax.scaling.budget import Budget, text_elements
from sora_jax.train import optimizer, state


def budget(config: ConfigDict) -> Budget:
    """What the run costs, from the config alone; nothing is compiled."""
    validation.validate(config, here=False)
    counts, dit = build.param_counts(config), config.stage == "dit"
    width, depth = (config.model.width, config.model.depth) if dit else (
        max(config.vae.decoder), len(config.vae.decoder))
    text, states = config.text, build.model_config(config)[1].states if dit else 0
    depth_of_text = text.depth if text.name == "text" else 0
    images = build.images_per_clip(config)
    share = build.tokens_per_clip(build.one_frame(config)) / build.tokens_per_clip(config) if images else 0.0
    row, most = build.row(config)
    captions = max(most, 1)
    return Budget.make(
        counts, build.forward_flops(config), tokens=row or build.tokens_per_clip(config), clips=config.train.clips,
        batch=config.train.batch, width=width, depth=depth, mesh=dict(config.mesh), dtype=config.dtype,
        remat=config.model.remat, mlp_ratio=config.model.mlp_ratio, heads=config.model.heads,
        text_tokens=captions * states, single=single(config),
        images=images, image_share=share, beside=build.critic_params(config), adapted=adapted.count(config),
        text=captions * text_elements(states, text.length, text.width, depth_of_text, text.heads) if dit else 0,
    )


def single(config: ConfigDict) -> int:
    """Parameters with one moment in the place of two: those that Muon updates."""
    if not config.optimizer.muon or build.lora_rank(config):
        return 0
    _, shapes = state.split(lambda: build.make(config))
    marked = jax.tree.leaves(optimizer.hidden(shapes))
    return sum(leaf.size for leaf, one in zip(jax.tree.leaves(nnx.to_pure_dict(shapes)), marked, strict=True) if one)
