"""Noise priors p(z) of latent-variable models: functions (key, num) -> [num, Z]."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Prior = Callable[[jax.Array, int], jax.Array]


def normal(size: int) -> Prior:
  """z ~ N(0, I), [num, size]."""
  return lambda key, num: jax.random.normal(key, (num, size))


def uniform(size: int) -> Prior:
  """z uniform on the cube [-1, 1]^size, [num, size]."""
  return lambda key, num: jax.random.uniform(key, (num, size), minval=-1.0)


def sphere(size: int) -> Prior:
  """z uniform on the sphere of radius sqrt(size), [num, size]."""

  def sample(key, num):
    z = jax.random.normal(key, (num, size))
    return z * jnp.sqrt(size) / jnp.linalg.norm(z, axis=-1, keepdims=True)

  return sample
