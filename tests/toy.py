"""A model, an objective and a source small enough to train in a second: what the machinery is tested with."""
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from sora_jax import checkpoint, disk, loader, mesh
from sora_jax.nn import axes
from sora_jax.train import ema, optimizer, state, step

WIDTH = 16


class Net(nnx.Module):
    """Two matrices, a bias, and a stack of scales: every kind of leaf a real model has."""

    def __init__(self, width: int = WIDTH, *, rngs: nnx.Rngs):
        normal = nnx.initializers.normal(0.3)
        self.up = axes.param(rngs(), normal, (WIDTH, 2 * width), ("embed", "mlp"))
        self.bias = axes.param(rngs(), nnx.initializers.zeros, (2 * width,), ("mlp",))
        self.scales = nnx.List([axes.param(rngs(), nnx.initializers.ones, (3, 2 * width), ("layers", "mlp"))])
        self.down = axes.param(rngs(), normal, (2 * width, WIDTH), ("mlp", "embed"))

    def __call__(self, x):
        h = jnp.tanh(x @ self.up[...] + self.bias[...][None])
        return (h * self.scales[0][...].mean(0, keepdims=True)) @ self.down[...]


@dataclasses.dataclass(frozen=True)
class Objective:
    """Denoise: the noise key is used, so an unrepeatable key shows."""

    noise: float = 0.1

    def loss(self, model, batch, key):
        x = batch.x.reshape(batch.x.shape[0], -1)
        loss = jnp.mean((model(x + self.noise * jax.random.normal(key, x.shape)) - x) ** 2)
        return loss, {"half": loss / 2}


class Source:
    """Item i is a pure function of i: `x` of shape (1, 4, 4, 1), a caption, a mask."""

    def __init__(self, size: int = 40):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, i):
        x = np.random.default_rng(i).normal(size=(1, 4, 4, 1)).astype(np.float32)
        return {"x": x, "text": np.full(4, i % 256, np.uint8), "mask": np.ones(4, bool)}


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything a loop needs, made once."""

    mesh: jax.sharding.Mesh
    seed: int = 3
    width: int = WIDTH
    schedule: tuple = (1e-2, 40, 0.1, 0.2)

    def make(self):
        return Net(self.width, rngs=nnx.Rngs(self.seed))

    @functools.cached_property
    def tx(self):
        return optimizer.adamw(weight_decay=0.1)

    @functools.cached_property
    def step(self):
        graph, params = state.split(self.make)
        rate = optimizer.schedule(*self.schedule)
        update = step.compiled(state.shardings(params, self.tx, self.mesh), self.mesh, graph=graph, tx=self.tx,
                               objective=Objective(), ema=ema.Power(), seed=self.seed)
        return lambda current, batch: update(current, batch, jnp.float32(rate(int(current.step))))

    def initial(self):
        return state.initial(self.make, self.tx, self.mesh)

    def abstract(self):
        return state.abstract(self.make, self.tx, self.mesh)

    def loader(self):
        return loader.Loader(Source(), batch=8, seed=self.seed, mesh=self.mesh, workers=0)


def follow(folder, steps: int, every: int = 4, sizes: dict | None = None) -> None:
    """A loop: resume from `folder`, update until `steps`, save as it goes. Run it in a child to kill it."""
    this = run(**(sizes or {}))
    with disk.hold(folder), checkpoint.Checkpoints(f"{folder}/checkpoints") as checkpoints:
        point = checkpoints.restore(this.abstract())
        current = point.state if point else this.initial()
        stream = this.loader().iterate(int(current.step))
        for k in range(int(current.step), steps):
            current, scalars = this.step(current, next(stream))
            if (k + 1) % every == 0 or k + 1 == steps:
                checkpoints.save(k + 1, current, {"loss": float(scalars["loss"])})
        stream.close()


def run(**sizes) -> Run:
    """A toy run on a mesh of these sizes; no sizes: one device."""
    return Run(mesh.make(**(sizes or {"data": 1})))
