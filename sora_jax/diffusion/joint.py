"""Clips and one-frame clips in one update: the mean of an objective over both, each as a batch of its own shape.

A one-frame clip costs a fraction of a film and shows as many objects in as many places: what a caption says of count,
colour, shape and place can be learned from them (joint training on images and video: Ho et al. 2022, arXiv 2204.03458).
"""
from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import Array, Float

from sora_jax.types import Batch, Scalars


@dataclass(frozen=True)
class Joint:
    """`objective` on two batches, equal in weight."""

    objective: Any

    def loss(self, model, batches: tuple[Batch, Batch], key: jax.Array) -> tuple[Float[Array, ""], Scalars]:
        """Half the loss of the clips plus half that of the one-frame clips; both are among the scalars."""
        key_clips, key_images = jax.random.split(key)
        clips, scalars = self.objective.loss(model, batches[0], key_clips)
        images, _ = self.objective.loss(model, batches[1], key_images)
        return (clips + images) / 2, {**scalars, "loss_clips": clips, "loss_images": images}
