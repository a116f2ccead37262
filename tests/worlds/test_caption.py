"""Captions say what is so, one tenth of them is never trained on, and prompts are drawn from that tenth."""

from collections import Counter

import numpy as np
import pytest
from worlds_drawn import EVERY, stream

from sora_jax.types import ConfigError
from sora_jax.worlds import palette
from sora_jax.worlds.caption import LANGUAGES, STYLES, caption, withheld
from sora_jax.worlds.prompts import prompts
from sora_jax.worlds.specification import Specification, specification

LONGEST = 128  # bytes that the caption encoder reads


def clips(count, families=EVERY, **rest):
    drawn = stream(families, **rest)
    return [drawn.clip(i) for i in range(count)]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("style", STYLES)
def test_what_a_caption_promises_is_what_is_shown(language, style):
    promised = Counter()
    for truth, text in clips(400, language=language, style=style):
        said, true = specification(text), specification(truth)
        assert said.kinds == true.kinds, text
        assert said.direction in (true.direction, None), text
        assert said.relation in (true.relation, None), text
        assert len(text.encode()) <= LONGEST, text
        promised[truth["family"], said.direction is not None] += 1
    for family in ("uniform", "occluder", "pan"):
        assert promised[family, True] > 0 and promised[family, False] == 0


@pytest.mark.parametrize("frames", [1, 2])
def test_captions_of_images_and_cut_clips_promise_no_event(frames):
    for truth, text in clips(150, language="both", style="both", frames=frames):
        said = specification(text)
        assert said.kinds == specification(truth).kinds and said.direction in (truth["direction"], None)
        if frames == 1:
            assert not any(word in text for word in ("move", "bounce", "camera", "fall", "移动", "镜头"))
        if not truth["events"] and truth["family"] in ("bounce", "collision"):
            assert not any(word in text for word in ("bounces off", "collide", "hits", "弹回", "相撞"))


def test_the_plain_form_is_the_commonest():
    uniform = clips(400, families=("uniform",))
    plain = sum(
        text == f"{'an' if palette.COLOUR_NAMES[t['colour'][0]][0] in 'aeiou' else 'a'} "
        f"{palette.COLOUR_NAMES[t['colour'][0]]} {palette.SHAPES[t['shape'][0]]} moves {t['direction']}"
        for t, text in uniform
    )
    assert 0.35 < plain / len(uniform) < 0.55
    assert not withheld("a red circle moves right")


@pytest.mark.parametrize("split", ["train", "val"])
def test_withheld_captions_are_never_shown(split):
    texts = [text for _, text in clips(600, split=split, language="both", style="both")]
    assert not any(map(withheld, texts))
    rng = np.random.default_rng(0)
    free = {caption(truth, "en", "short", rng) for truth, _ in clips(300, families=("uniform",)) for _ in range(3)}
    assert 0.07 < np.mean([withheld(text) for text in free]) < 0.13


def test_withholding_ignores_case_and_space():
    text = next(prompt.text for prompt in prompts(1))
    assert withheld(text) and withheld(f"  {text.upper()} ")


@pytest.mark.parametrize("rest", [{}, {"style": "dense"}, {"language": "zh"}, {"families": ("composition", "uniform")}])
def test_256_prompts_were_never_seen_in_training(rest):
    asked = prompts(256, **rest)
    texts = {prompt.text for prompt in asked}
    assert len(texts) == 256 and all(map(withheld, texts))
    families = rest.get("families", ("uniform",))
    style, language = rest.get("style", "short"), rest.get("language", "en")
    assert not texts & {text for _, text in clips(500, families, style=style, language=language)}
    assert [prompt.text for prompt in asked[:16]] == [prompt.text for prompt in prompts(16, **rest)]
    assert all(prompt.specification == specification(prompt.text) for prompt in asked)


def test_prompts_can_be_seen_ones_or_of_held_pairs_and_run_out_in_words():
    assert not any(withheld(prompt.text) for prompt in prompts(20, unseen=False))
    held = prompts(32, split="held_pair")
    assert all(set(prompt.specification.kinds) <= set(palette.HELD_PAIRS) for prompt in held)
    left_out = prompts(5)[0].text
    assert left_out not in {prompt.text for prompt in prompts(5, seen=[left_out])}
    with pytest.raises(ConfigError, match="ask for fewer"):
        prompts(60, families=("collision",))


@pytest.mark.parametrize("text, kinds, direction, relation", [
    ("a red ball moving to the left", [("red", "circle")], "left", None),
    ("Two blue boxes and one green triangle", [("blue", "square")] * 2 + [("green", "triangle")], None, None),
    ("the camera pans right over a cyan disc", [("cyan", "circle")], "left", None),
    ("a red circle left of a blue square", [("blue", "square"), ("red", "circle")], None,
     (("red", "circle"), "left of", ("blue", "square"))),
    ("三个红色的圆形", [("red", "circle")] * 3, None, None),
    ("一个红球向右滚动", [("red", "circle")], "right", None),
    ("蓝色方块的左边是黄色圆形", [("blue", "square"), ("yellow", "circle")], None,
     (("yellow", "circle"), "left of", ("blue", "square"))),
    ("a sunset over the sea", [], None, None),
])  # fmt: skip
def test_free_text_is_read(text, kinds, direction, relation):
    assert specification(text) == Specification(tuple(sorted(kinds)), direction, relation)
