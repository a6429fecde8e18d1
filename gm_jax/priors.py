"""Noise priors p(z) of latent-variable models: functions (key, num) -> `[num, Z]`.

Those that have a density say so, as `log_prob`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

Prior = Callable[[jax.Array, int], jax.Array]


class Density(NamedTuple):
  """A prior whose density is known; called, it draws."""

  draw: Prior
  log_prob: Callable[[jax.Array], jax.Array]  # z [B, Z] -> [B] nats

  def __call__(self, key: jax.Array, num: int) -> jax.Array:
    return self.draw(key, num)


def normal(size: int, *, std: float = 1.0) -> Density:
  """Returns the prior N(0, std^2 I): (key, num) -> `[num, size]`.

  Args:
    size: Z.
    std: > 0, of every number.

  Returns:
    The prior.

  Raises:
    ValueError: `std` is not above 0.
  """
  if not std > 0:
    raise ValueError(f'std must be > 0, got {std}')
  return Density(
    lambda key, num: std * jax.random.normal(key, (num, size)),
    lambda z: jax.scipy.stats.norm.logpdf(z, scale=std).sum(axis=-1),
  )


def uniform(size: int) -> Density:
  """Returns the uniform prior on [-1, 1]^size: (key, num) -> `[num, size]`.

  Args:
    size: Z.

  Returns:
    The prior, without density outside.
  """

  def log_prob(z):
    inside = (jnp.abs(z) <= 1.0).all(axis=-1)
    return jnp.where(inside, -size * math.log(2.0), -jnp.inf)

  return Density(
    lambda key, num: jax.random.uniform(key, (num, size), minval=-1.0), log_prob
  )


def sphere(size: int) -> Prior:
  """Returns the uniform prior on a sphere: (key, num) -> `[num, size]`.

  Its radius is sqrt(size), about that of N(0, I).

  Args:
    size: Z.

  Returns:
    The prior.
  """

  def sample(key, num):
    z = jax.random.normal(key, (num, size))
    return z * jnp.sqrt(size) / jnp.linalg.norm(z, axis=-1, keepdims=True)

  return sample


Labelled = Callable[[jax.Array, jax.Array], jax.Array]  # (key, label [B]) -> [B, Z]


def ring_mixture(
  num_classes: int, *, radius: float, radial_std: float, tangential_std: float
) -> Labelled:
  """Returns a prior of a Gaussian for each class, their means on a circle.

  Source: Adversarial Autoencoders, Makhzani et al., 2015, arXiv:1511.05644, figure 4.

  Args:
    num_classes: K, at angles 2 pi k / K.
    radius: of the circle.
    radial_std: standard deviation of each Gaussian away from the center.
    tangential_std: standard deviation along the circle's tangent.

  Returns:
    A function (key, label `[B]` in [0, K)) -> z `[B, 2]`.

  Raises:
    ValueError: a number that is not above 0.
  """
  if min(num_classes, radius, radial_std, tangential_std) <= 0:
    raise ValueError('the classes, radius and standard deviations must be > 0')

  def sample(key, label):
    angle = 2.0 * jnp.pi * label / num_classes
    out = jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)
    across = jnp.stack([-out[:, 1], out[:, 0]], -1)
    noise = jax.random.normal(key, (len(label), 2))
    along = radius + radial_std * noise[:, :1]
    return along * out + tangential_std * noise[:, 1:] * across

  return sample


def mixture(labelled: Labelled, num_classes: int) -> Prior:
  """Returns the prior of a class drawn uniformly: (key, num) -> `[num, Z]`.

  Args:
    labelled: (key, label `[B]`) -> z `[B, Z]`.
    num_classes: K.

  Returns:
    The prior.
  """

  def sample(key, num):
    label_key, z_key = jax.random.split(key)
    return labelled(z_key, jax.random.randint(label_key, (num,), 0, num_classes))

  return sample
