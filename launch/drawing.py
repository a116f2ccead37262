"""The flags of every door that draws, and what they ask of a pipeline."""
from absl import flags

RUN = flags.DEFINE_string("run", "experiments/004_every_family", "run folder, committed weights, or a weights file")
VAE = flags.DEFINE_string("vae", "", "autoencoder weights; empty: those the run was trained on")
SEED = flags.DEFINE_integer("seed", 0, "the same seed draws the same clip, bit for bit")
FRAMES = flags.DEFINE_integer("frames", 0, "frames, 1 + 4k; 0: as trained", lower_bound=0)
HEIGHT = flags.DEFINE_integer("height", 0, "pixels; 0: as trained", lower_bound=0)
WIDTH = flags.DEFINE_integer("width", 0, "pixels; 0: as trained", lower_bound=0)
STEPS = flags.DEFINE_integer("steps", 0, "sampler steps; 0: as configured", lower_bound=0)
GUIDANCE = flags.DEFINE_float("guidance", -1.0, "classifier-free guidance; negative: as configured")
SAMPLER = flags.DEFINE_string("sampler", "", "ddim, ddpm, dpmpp, euler, heun, sde or unipc; empty: as configured")
KNOWN_NOISE = flags.DEFINE_float("known_noise", None, "time of the noise on what is given while drawing, 0: none")
LAG = flags.DEFINE_integer("lag", None, "ddim: steps that each latent frame is behind the one before it")


def writable(path):
    """InputError unless a film can be written under this ending."""
    from sora_jax import video
    from sora_jax.types import InputError

    if path.suffix not in video.WRITERS:
        raise InputError(f"--out={path}: the ending must be one of {', '.join(video.WRITERS)}")


def size(data) -> tuple[int, int, int]:
    """(frames, height, width): the flags', or the run's."""
    return FRAMES.value or data.frames, HEIGHT.value or data.height, WIDTH.value or data.width


def options(**changes) -> dict:
    """Seed, steps, guidance, sampler, and the changes to config.sampler, as a pipeline takes them."""
    changes |= {"known_noise": KNOWN_NOISE.value, "lag": LAG.value}
    return {"seed": SEED.value, "steps": STEPS.value or None, "sampler": SAMPLER.value or None,
            "guidance": None if GUIDANCE.value < 0 else GUIDANCE.value,
            "changes": {name: value for name, value in changes.items() if value is not None}}
