"""Networks of two inputs: critics of pairs, and networks that are given a condition.

A network with a condition is called as `module(x, condition, *, train=False)`; the
condition is embedded, `[B, K]`, as one-hot classes or numbers.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from gm_jax import base
from gm_jax.models import layers


class Joint(nn.Module):
  """A critic of (x, z): the features of x concatenated with z, then a head.

  Attributes:
    body: x [B, ...] -> features [B, F]; None to take x flat.
    head: `[B, F + Z]` -> logits [B] or [B, 1].
  """

  body: nn.Module | None
  head: nn.Module

  def __call__(
    self, pair: tuple[base.Array, base.Array], *, train: bool = False
  ) -> base.Array:
    """Maps pairs to logits.

    Args:
      pair: x `[B, ...]` and z `[B, Z]`.
      train: passed on to the body and the head.

    Returns:
      `[B]` or `[B, 1]` logits, as the head's.

    Raises:
      ValueError: x and z are not equally many.
    """
    x, z = pair
    if len(x) != len(z):
      raise ValueError(f'x and z must be pairs, got {x.shape} and {z.shape}')
    x = x.reshape(len(x), -1) if self.body is None else self.body(x, train=train)
    return self.head(jnp.concatenate([x, z], -1), train=train)


class Conditioned(nn.Module):
  """A network of its input, taken flat, concatenated with the condition.

  Source: Conditional Generative Adversarial Nets, Mirza and Osindero, 2014,
  arXiv:1411.1784, section 3.2.

  Attributes:
    body: `[B, D + K]` -> anything.
  """

  body: nn.Module

  def __call__(
    self, x: base.Array, condition: base.Array, *, train: bool = False
  ) -> base.Array:
    """Applies the body to x `[B, ...]` beside the condition `[B, K]`.

    Raises:
      ValueError: the condition is not `[B, K]`.
    """
    _check_condition(x, condition)
    x = x.reshape(len(x), -1)
    return self.body(jnp.concatenate([x, condition], axis=1), train=train)


class Projection(nn.Module):
  """A critic whose logit has a part that is linear in the condition.

  logit(x, y) = w . phi(x) + b + (V y) . phi(x),   phi(x) = activation(body(x))

  Source: cGANs with Projection Discriminator, Miyato and Koyama, 2018,
  arXiv:1802.05637, equation 4.

  Attributes:
    body: x [B, ...] -> `[B, F]`.
    activation: leaky relu of slope 0.2 if None.
    spectral_norm: whether w and V are divided by their largest singular value.
  """

  body: nn.Module
  activation: Callable | None = None
  spectral_norm: bool = False

  @nn.compact
  def __call__(
    self, x: base.Array, condition: base.Array, *, train: bool = False
  ) -> base.Array:
    """Maps x `[B, ...]` and the condition `[B, K]` to logits `[B, 1]`.

    Raises:
      ValueError: the condition is not `[B, K]`.
    """
    _check_condition(x, condition)
    features = self.body(x, train=train)
    if self.activation is None:
      features = nn.leaky_relu(features, 0.2)
    else:
      features = self.activation(features)
    wrap = functools.partial(
      layers.normalize, spectral_norm=self.spectral_norm, train=train
    )
    embed = nn.Dense(features.shape[1], use_bias=False, name='condition')
    projected = (wrap(embed)(condition) * features).sum(axis=1, keepdims=True)
    logits = wrap(nn.Dense(1, name='readout'))(features) + projected
    return layers.at_least_float32(logits)


def _check_condition(x: base.Array, condition: base.Array) -> None:
  if condition.ndim != 2 or len(condition) != len(x):
    raise ValueError(
      f'the condition of x {x.shape} must be [{len(x)}, K], got {condition.shape}'
    )
