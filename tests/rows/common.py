"""The record of a row of the table of laws, and the rows' small data."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from gm_jax.models import mlp

CENTER = jnp.array([1.0, -0.5])


class Row(NamedTuple):
  """A method, small: made by `make(wrap, prior)`, fed by `batch(key)`."""

  make: Callable
  batch: Callable
  falls: bool = True  # toy discrepancy measured; images only run
  levels: int = 0  # of discrete data, for the law of masses
  rounding: float = 1.0  # what tolerances are multiplied by: bfloat16's are wider
  structure: str = ''  # it stands for: `make test` tries it on many devices
  slow: bool = False  # another row has its method: `make test-slow` tries it


def plane(num):
  """Draws [num, 2] from N(CENTER, 0.3^2 I)."""
  return lambda key: {'x': CENTER + 0.3 * jax.random.normal(key, (num, 2))}


def images(num):
  return lambda key: {'x': jax.random.uniform(key, (num, 8, 8, 1), minval=-1.0)}


class Joined(nn.Module):
  """A network of its input beside its condition."""

  body: nn.Module

  def __call__(self, x, condition, *, train=False):
    return self.body(jnp.concatenate([x, condition], axis=1), train=train)


def players():
  return {
    'generator': mlp.MLP((16, 2), activation=nn.tanh),
    'discriminator': mlp.MLP((16, 1)),
  }
