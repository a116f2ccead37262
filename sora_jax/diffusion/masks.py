"""Which tokens are given: a task is a mask over positions (frame, row, column). True means known, hence never noised.

none: text to video · first: image to video · last: extend backwards · ends: join two frames · frames: a random half
of the frames, for interpolation and extension · box: everything outside a random box in space, for inpainting.
"""
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

PATTERNS = ("none", "first", "last", "ends", "frames", "box")


def known(key: jax.Array, pattern: str, positions: Float[Array, "n 3"]) -> Bool[Array, "n"]:
    """The tokens that `pattern` gives away. At least one token stays unknown, if need be all of them (a clip of one
    frame has no first frame to give)."""
    frame = positions[:, 0]
    first, last = frame == frame.min(), frame == frame.max()
    draw = {"none": lambda: jnp.zeros_like(first), "first": lambda: first, "last": lambda: last,
            "ends": lambda: first | last, "frames": lambda: random_frames(key, frame),
            "box": lambda: ~random_box(key, positions)}
    given = draw[pattern]()
    return given & ~given.all()


def random_known(key: jax.Array, positions: Float[Array, "b n 3"],
                 probabilities: tuple[float, ...]) -> Bool[Array, "b n"]:
    """For each clip a pattern drawn with `probabilities` (in the order of PATTERNS, summing to one) and its tokens."""
    key_which, key_where = jax.random.split(key)
    which = jax.random.choice(key_which, len(PATTERNS), (positions.shape[0],), p=jnp.asarray(probabilities))

    def one(key, index, places):
        options = jnp.stack([known(key, pattern, places) for pattern in PATTERNS])
        return (options & (jnp.arange(len(PATTERNS)) == index)[:, None]).any(axis=0)

    return jax.vmap(one)(jax.random.split(key_where, positions.shape[0]), which, positions)


def random_known_packed(key: jax.Array, positions: Float[Array, "b n 3"], segments: Int[Array, "b n"], clips: int,
                        probabilities: tuple[float, ...]) -> Bool[Array, "b n"]:
    """`random_known` for each of the `clips` of a row; padding, in segment -1, is never known."""
    mine = segments[:, None] == jnp.arange(clips)[:, None]  # b s n
    # Tokens of others stand where the clip's first token stands, so that they change no least and no largest place.
    first = jnp.take_along_axis(positions, jnp.argmax(mine, axis=-1)[..., None], axis=1)
    places = jnp.where(mine[..., None], positions[:, None], first[:, :, None])
    given = random_known(key, places.reshape(-1, *places.shape[2:]), probabilities).reshape(mine.shape)
    return (given & mine).any(axis=1)


def random_frames(key: jax.Array, frame: Float[Array, "n"]) -> Bool[Array, "n"]:
    """Every frame given or not by a fair coin that all its tokens share."""
    coins = jax.vmap(lambda index: jax.random.bernoulli(jax.random.fold_in(key, index)))
    return coins(frame.astype(jnp.int32))


def random_box(key: jax.Array, positions: Float[Array, "n 3"]) -> Bool[Array, "n"]:
    """Tokens inside a box in rows and columns, in every frame, with each side from a quarter of the picture to all."""
    key_size, key_corner = jax.random.split(key)
    low, high = positions[:, 1:].min(axis=0), positions[:, 1:].max(axis=0) + 1
    size = (high - low) * jax.random.uniform(key_size, (2,), minval=0.25, maxval=1.0)
    corner = low + (high - low - size) * jax.random.uniform(key_corner, (2,))
    centre = positions[:, 1:] + 0.5
    return ((centre >= corner) & (centre < corner + size)).all(axis=1)
