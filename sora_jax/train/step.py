"""One update, for any model and any objective: batch in, next state and scalars out."""
import functools

import jax
import optax
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, PyTree

from sora_jax import mesh as meshes
from sora_jax.train.state import CRITIC, TrainState, joined, kept
from sora_jax.types import Batch, Packed, Scalars


def train_step(state: TrainState, batch: Batch | Packed | tuple[Batch, ...], rate: Float[Array, ""],
               frozen: PyTree = None, *, graph, objective, tx, ema, seed) -> tuple[TrainState, Scalars]:
    """One update at learning rate `rate` on the batch, or batches, that `objective` takes. Pure: randomness is a
    function of (seed, step), so a resumed run is the same run; one whose terms start later is taken `at` it. `frozen`
    are weights of the model that no update changes and no gradient is taken of."""
    objective = objective.at(state.step) if hasattr(objective, "at") else objective
    key = jax.random.fold_in(jax.random.key(seed), state.step)

    def loss_fn(params):
        return objective.loss(nnx.merge(graph, joined(params, frozen or {})), batch, key)

    (loss, scalars), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    updates, opt = tx.update(grads, state.opt, state.params)
    params = jax.tree.map(lambda p, u: (p - rate * u).astype(p.dtype), state.params, updates)
    scalars |= {"loss": loss, "grad_norm": optax.tree.norm(kept(grads)), "rate": rate}
    if CRITIC in grads:
        scalars["critic_grad_norm"] = optax.tree.norm(grads[CRITIC])
    return TrainState(state.step + 1, params, ema(state.ema, kept(params), state.step), opt), scalars


def compiled(shardings: TrainState, mesh: Mesh, frozen: PyTree = None, **parts):
    """`train_step` under `jit`: state donated and kept in place, clips split over the mesh, scalars on every device.

    `parts` are the keyword arguments of `train_step`. `frozen` says where weights lie that are not trained; they are
    then the last argument of every update.
    """
    more = (frozen,) if frozen else ()
    return jax.jit(functools.partial(train_step, **parts), donate_argnums=0,
                   in_shardings=(shardings, meshes.batch_sharding(mesh), meshes.replicated(mesh), *more),
                   out_shardings=(shardings, meshes.replicated(mesh)))
