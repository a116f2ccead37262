"""PSNR, SSIM and the foreground against figures that can be worked out by hand."""
import numpy as np
import pytest

from sora_jax.evals import reconstruction
from sora_jax.evals.reconstruction import evaluate, foreground, psnr, ssim


def clips(count=5, frames=3, size=16):
    """Grey with a bright square that moves."""
    made = np.full((count, frames, size, size, 3), 128, np.uint8)
    for i in range(count):
        for f in range(frames):
            made[i, f, 4 + f : 8 + f, 2 + i : 6 + i] = (200, 30, 30)
    return made


def shifted(by):
    return lambda x: (x.astype(np.int16) + by).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("error, decibels", [(255.0**2, 0.0), (650.25, 20.0), (1.0, 48.1308), (0.0, 148.1308)])
def test_psnr_of_a_mean_squared_error(error, decibels):
    assert psnr(error) == pytest.approx(decibels, abs=1e-3)


def test_a_constant_offset():
    found = evaluate(shifted(10), clips())
    want = 20 * np.log10(255 / 10)
    assert found["psnr"] == pytest.approx(want) and found["psnr_foreground"] == pytest.approx(want)
    np.testing.assert_allclose(found["psnr_by_frame"], [want] * 3)
    assert found["clips"] == 5 and found["ssim"] < 1


def test_a_perfect_copy():
    found = evaluate(lambda x: x, clips())
    assert found["psnr"] == found["psnr_foreground"] == psnr(0.0) and found["ssim"] == pytest.approx(1.0)


def test_the_figure_is_of_the_mean_error_not_the_mean_of_figures():
    """One clip off by 20, four perfect: the error is 400 / 5."""
    def spoiled(x):
        return np.where(x[:, :1, :1, :1, :1] == 0, shifted(20)(x), x)

    given = clips()
    given[2, 0, 0, 0, 0] = 0
    found = evaluate(spoiled, given, batch=2)
    assert found["psnr"] == pytest.approx(20 * np.log10(255 / 80**0.5), abs=0.01)


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 8])
def test_batches_change_nothing_and_have_one_size(batch):
    noise = np.random.default_rng(0).integers(-9, 9, clips().shape)
    sizes, given = set(), clips()

    def noisy(x):
        sizes.add(len(x))
        at = [next(i for i, clip in enumerate(given) if (clip == part).all()) for part in x]
        return shifted(noise[at])(x)

    found, whole = evaluate(noisy, given, batch=batch), evaluate(noisy, given, batch=5)
    assert found.pop("psnr_by_frame") == pytest.approx(whole.pop("psnr_by_frame"))
    assert found == pytest.approx(whole) and len(sizes - {5}) <= 1


def test_frames_and_foreground_are_told_apart():
    def late(x):
        back = x.copy()
        back[:, 2][x[:, 2] == 200] = 190
        return back

    found = evaluate(late, clips())
    assert found["psnr_by_frame"][0] == psnr(0.0) > found["psnr_by_frame"][2]
    square = 100 * 16 / (16 * 16 * 3)  # a third of the channels of 16 of 256 pixels, in one frame
    assert found["psnr_by_frame"][2] == pytest.approx(psnr(square))
    assert found["psnr_foreground"] == pytest.approx(psnr(100 / 9)), "one channel in three of one frame in three"


def test_the_foreground_is_what_differs_from_the_commonest_colour():
    video = clips()[0]
    np.testing.assert_array_equal(foreground(video), (video[..., 0] == 200))
    assert not foreground(np.full_like(video, 77)).any()
    faint = np.full_like(video, 77)
    faint[0, 0, 0, 1] = 77 + reconstruction.FOREGROUND
    assert not foreground(faint).any()
    faint[0, 0, 0, 1] += 1
    assert foreground(faint).sum() == 1
    flat = evaluate(shifted(10), np.full((2, 3, 16, 16, 3), 77, np.uint8))
    assert flat["psnr_foreground"] == flat["psnr"]


@pytest.mark.parametrize("a, b", [(100, 100), (100, 150), (0, 255)])
def test_similarity_of_two_flat_pictures(a, b):
    """Wang et al. 2004, eq. 13 with no variance: (2ab + c1) / (a² + b² + c1)."""
    c1 = (0.01 * 255) ** 2
    flat = [np.full((1, 12, 12, 3), value, np.uint8) for value in (a, b)]
    assert ssim(*flat) == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1))


def test_similarity_falls_with_noise_and_is_symmetric():
    rng, video = np.random.default_rng(0), clips()[0]
    noisy = [shifted(rng.integers(-level, level + 1, video.shape))(video) for level in (2, 8, 32)]
    found = [ssim(video, other) for other in noisy]
    assert 1 > found[0] > found[1] > found[2] > 0
    assert ssim(video, noisy[1]) == pytest.approx(ssim(noisy[1], video))
