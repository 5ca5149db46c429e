"""The worker that times JAX on the CPU: a training step of the same networks, compiled as a whole."""

import os
import sys

import jax
from interleave import serve
from jax import lax
from jax import numpy as jnp

BATCH = 50
CONVOLUTIONS = ((4, 32, 4, 0, 1), (32, 32, 3, 1, 2), (32, 64, 3, 1, 1), (64, 64, 3, 1, 1), (64, 64, 3, 1, 2))


def initial(key, cap):
    """(w, b) of each layer, with He's standard deviations."""
    shapes = [(size, size, c, o) for c, o, size, *_ in CONVOLUTIONS]
    shapes += [(2304 if cap else 9216, 64), (64, 64), (64, 2)]
    keys = jax.random.split(key, len(shapes))
    std = [(2 / (jnp.prod(jnp.array(shape[:-1])))) ** 0.5 for shape in shapes]
    draw = zip(keys, shapes, std, strict=True)
    return [(jax.random.normal(one, shape) * scale, jnp.zeros(shape[-1])) for one, shape, scale in draw]


def logits(params, x, key, cap):
    """Logits (n, 2) of stamps (n, 21, 21, 4), with dropout."""
    slope = 0.0 if cap else 0.01
    x = jnp.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0)))
    x = jnp.concatenate([jnp.rot90(x, turns, (1, 2)) for turns in range(4)])
    for (w, b), (_, _, _, pad, pool) in zip(params[:5], CONVOLUTIONS, strict=True):
        sides = [(pad, pad), (pad, pad)]
        x = lax.conv_general_dilated(x, w, (1, 1), sides, dimension_numbers=("NHWC", "HWIO", "NHWC")) + b
        x = jax.nn.leaky_relu(x, slope)
        if pool == 2:
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = x.reshape(len(x), -1)
    if not cap:
        x = jnp.concatenate(jnp.split(x, 4), axis=1)
    for (w, b), own in zip(params[5:7], jax.random.split(key), strict=True):
        x = jax.nn.leaky_relu(x @ w + b, slope)
        x = jnp.where(jax.random.bernoulli(own, 0.5, x.shape), 2 * x, 0)
    if cap:
        x = jnp.stack(jnp.split(x, 4)).mean(axis=0)
    w, b = params[7]
    return x @ w + b


def step(params, x, label, key, cap):
    """One step of SGD by cross-entropy."""

    def loss(params):
        probabilities = jax.nn.log_softmax(logits(params, x, key, cap))
        return -jnp.take_along_axis(probabilities, label[:, None], axis=1).mean()

    return jax.tree.map(lambda p, g: p - 0.01 * g, params, jax.grad(loss)(params))


if __name__ == "__main__":
    arch, what = sys.argv[1].split()
    if what != "training":
        raise SystemExit(f"this worker times training only, not {what}")
    # XLA takes as many threads as the process may use cores; it asks at the first operation.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[2])])
    key, cap = jax.random.key(0), arch == "cap"
    params = initial(key, cap)
    stamps, label = jax.random.uniform(key, (BATCH, 21, 21, 4)), jnp.arange(BATCH) % 2
    compiled = jax.jit(step, static_argnums=4)
    serve(f"JAX {jax.__version__}", lambda: jax.block_until_ready(compiled(params, stamps, label, key, cap)))
