"""The arithmetic of the lecture, to its digits."""
import pytest

from sora_jax.scaling import estimates


def test_a_minute_of_video_in_tokens_and_money():
    minute = estimates.minute_of_video()
    assert minute.tokens == 921_600 and round(minute.dollars, 2) == 13.82
    assert minute.dollars_a_day == pytest.approx(1.344e12)


def test_what_the_price_of_tokens_leaves_out():
    rest = estimates.left_out(921_600)
    assert rest.matrices == pytest.approx(5.5e15, rel=0.01) and rest.attention == pytest.approx(2.8e17, rel=0.01)
    assert rest.hours == pytest.approx(20, rel=0.03)


def test_the_language_model_of_six_billion():
    assert estimates.language_model_params() == pytest.approx(6.17e9, rel=0.001)
    assert estimates.language_model_params(70, 12288, 49152) == pytest.approx(1.3e11, rel=0.05)
