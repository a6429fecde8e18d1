"""Variables of a network for its tests, without compiling its initializers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np


def drawn(module, *args, std=1.0, seed=0, **kwargs):
  """Variables of `module.init(key, *args)`, all drawn from N(0, std^2)."""
  rng, init = np.random.default_rng(seed), functools.partial(module.init, **kwargs)
  return jax.tree.map(
    lambda leaf: jnp.asarray(std * rng.normal(size=leaf.shape), leaf.dtype),
    jax.eval_shape(init, jax.random.key(0), *args),
  )
