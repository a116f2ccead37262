"""What the spacetime transformer costs, from its config: forward FLOPs and parameters by group, exact and analytic."""
import math

import jax

from sora_jax.nn import groups


def flops(config, text_config, tokens: int, text_tokens: int | None = None, levels: int = 2,
          layout: tuple[int, int, int] | None = None, captions: int = 1) -> dict[str, int]:
    """Forward FLOPs of a clip, or of a row of clips, of `tokens` tokens by group (2 per multiply-add, matmuls only).

    `text_config` gives `flops` of the caption encoder and its number of `states` for each of the `captions`, unless
    `text_tokens` says the states of all. `layout` is the clip's (frames, rows, columns) in tokens; without it attention
    in groups goes by a mask and scores all pairs."""
    d, t, p, c, depth = config.width, tokens, config.elements, config.text_width, config.depth
    m = captions * text_config.states if text_tokens is None else text_tokens
    beside = m if config.text in ("joint", "prefix") else 0
    layer = 4 * d * d + config.rise * d + config.hidden_width * d
    adaln = 6 * depth * (2 if config.text == "joint" else 1) + 2 if config.modulation == "block" else 6
    pooled = 2 * captions * c * d if config.pooled == "linear" else 0
    read = depth * (4 * t * d * d + 4 * m * config.states_width * d + 4 * t * m * d) if config.text == "cross" else 0
    reads = config.text != "none" or config.pooled != "none"
    return {"attention_scores": 4 * d * _pairs(config, t + beside, layout),
            "blocks": 2 * depth * (t + beside) * layer,
            "cross": read,
            "modulation": 2 * levels * adaln * d * d,
            "text": captions * text_config.flops if reads else 0,
            "embed": 2 * t * p * d + 2 * levels * (config.time_width + d) * d + pooled + _states(config, m),
            "head": 2 * t * d * p * (1 + config.variance)}


def _pairs(config, tokens: int, layout: tuple[int, int, int] | None) -> int:
    """Pairs of query and key in all layers together."""
    if config.attention == "full" or layout is None:
        return config.depth * tokens**2
    return config.depth // 2 * sum(groups.scores(config.attention, config.window, layout))


def _states(config, m: int) -> int:
    """What is done to a caption's states before the blocks read them."""
    one = config.caption_mlp or config.text in ("joint", "prefix")
    return 2 * m * config.width * (config.text_width * one + config.width * config.caption_mlp)


def params_by_group(params: dict) -> dict[str, int]:
    """Parameters of a pure dict of DiT weights: `n_core` is the matmul kernels of the blocks without their adaLN,
    `adaln` the modulations, `text`, `embed`, `head`, and `norms` the biases and gains of the blocks."""
    totals = dict.fromkeys(("n_core", "adaln", "text", "embed", "head", "norms"), 0)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        totals[group([key.key for key in path])] += math.prod(leaf.shape)
    return totals


def group(names: list[str]) -> str:
    """The group of `params_by_group` that a weight of this path belongs to."""
    if names[0] == "blocks":
        if names[1].endswith("modulation"):
            return "adaln"
        return "n_core" if names[-1] == "kernel" else "norms"
    owners = {"text": "text", "head_modulation": "adaln", "modulation": "adaln", "head_table": "adaln", "head": "head"}
    return owners.get(names[0], "embed")
