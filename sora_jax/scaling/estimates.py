"""Arithmetic on the back of an envelope, named and checked: what a minute of generated video is in tokens and money,
what that leaves out, and how many parameters a language model of given shapes has.

Source: a public 2024 lecture on Sora-like text-to-video models; the attention line is ours.
"""
from typing import NamedTuple

H100 = 4e14  # FLOPs a second sustained in bf16, half of the peak


class Minute(NamedTuple):
    """One minute of video as a language model's tokens: count, price in dollars, and the price of everything that
    people watch in a day at the rounded price of a minute."""

    tokens: int
    dollars: float
    dollars_a_day: float


def minute_of_video(fps: int = 30, patches: int = 512, dollars_per_million: float = 15.0, people: float = 8e8,
                    hours: float = 2.0) -> Minute:
    """1,800 frames of 32 x 16 patches (60 x 80 pixels of 1920 x 1280): 921,600 tokens, $13.82; 800 M people for two
    hours a day: $1.344 trillion."""
    tokens = 60 * fps * patches
    dollars = tokens * dollars_per_million / 1e6
    return Minute(tokens, dollars, people * hours * 60 * round(dollars))


class Attention(NamedTuple):
    """What the price of tokens leaves out: forward FLOPs in matrices and in attention, and hours of one accelerator for
    a whole sample."""

    matrices: float
    attention: float
    hours: float


def left_out(tokens: int, params: float = 3e9, depth: int = 32, width: int = 2560, steps: int = 50,
             flops_per_second: float = H100) -> Attention:
    """Full attention over all tokens at once: 2 N T in matrices against 4 L T^2 d in scores, `steps` steps with
    guidance (two passes each)."""
    matrices, attention = 2.0 * params * tokens, 4.0 * depth * float(tokens) ** 2 * width
    return Attention(matrices, attention, 2 * steps * (matrices + attention) / flops_per_second / 3600)


def language_model_params(depth: int = 28, width: int = 4096, hidden: int = 16384, vocabulary: int = 130_528) -> int:
    """Parameters of a plain decoder with two-matrix MLPs and tied embeddings: 28 layers of 4096 are about 6 B."""
    return depth * (4 * width**2 + 2 * width * hidden) + vocabulary * width


def table() -> str:
    """All of it as text."""
    minute, rest = minute_of_video(), left_out(minute_of_video().tokens)
    rows = [("one minute of video", f"{minute.tokens:,} tokens", "1,800 frames of 512 patches"),
            ("its price", f"${minute.dollars:.2f}", "at $15 a million tokens"),
            ("all short video watched in a day", f"${minute.dollars_a_day / 1e12:.3f} trillion",
             "800 M people, 2 hours, at $14 a minute"),
            ("left out: matrices, forward", f"{rest.matrices:.2g} FLOPs", "3 B parameters"),
            ("left out: attention, forward", f"{rest.attention:.2g} FLOPs",
             f"{rest.attention / rest.matrices:.0f} times the matrices"),
            ("one sample, 50 steps with guidance", f"{rest.hours:.1f} H100-hours", "at 400 TFLOP/s"),
            ("28 layers of 4096, vocabulary 130,528", f"{language_model_params() / 1e9:.2f} B parameters", "")]
    return "\n".join(f"{name:40}{value:>22}   {note}".rstrip() for name, value, note in rows)
