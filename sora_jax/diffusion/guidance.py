"""Classifier-free guidance (Ho and Salimans 2022, eq. 6, written with scale = 1 + w)."""
from jaxtyping import Array, Float


def guide(conditional: Float[Array, "*s"], unconditional: Float[Array, "*s"],
          scale: float | Float[Array, ""]) -> Float[Array, "*s"]:
    """unconditional + scale (conditional - unconditional): at scale 1 the conditional, at 0 the unconditional one."""
    return unconditional + scale * (conditional - unconditional)
