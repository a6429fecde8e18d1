"""Hierarchies of codes: a ladder of vectors, and blocks of images from coarse to fine.

Codes z_1 ... z_L are drawn from the top, each prior and each posterior given the codes
above it,

  p(z) = p(z_1) prod_l p(z_l | z_1 ... z_{l-1}),
  q(z | x) = q(z_1 | x) prod_l q(z_l | z_1 ... z_{l-1}, x),

by one pass downwards that both share. A network is called as `module(x, noise)`, or
with x = None for samples of the prior, where `noise` has a standard normal array of the
shapes `code_shapes` a group; with `codes` these are taken instead of draws. All is
Gaussian and diagonal, by means and logarithms of standard deviations.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from gm_jax import base
from gm_jax.models import layers, pixelcnn

Shape = tuple[int, ...]
LIMIT = 10.0  # of log deviations, in size: far beyond what training reaches


Gaussian = tuple[base.Array, base.Array]  # mean, logarithm of the deviation


class Group(NamedTuple):
  """Codes of a group with the two distributions that they have."""

  z: base.Array  # [B, ...]
  posterior: Gaussian  # given x and the codes above; the prior where x is None
  prior: Gaussian  # given the codes above


class Pass(NamedTuple):
  """Codes and parameters of a pass downwards."""

  parameters: base.Array  # [B, ...] of the observation
  groups: tuple[Group, ...]  # from the top


class _Descent:
  """The groups of a pass, as far as it has come."""

  def __init__(self, noise, codes):
    self.noise, self.codes, self.groups = noise, codes, []

  def add(self, prior: Gaussian, posterior: Gaussian) -> base.Array:
    """Draws the next group of its posterior, or takes the one that is given."""
    i, (mean, log_std) = len(self.groups), posterior
    drawn = self.codes is None
    z = mean + jnp.exp(log_std) * self.noise[i] if drawn else self.codes[i]
    self.groups.append(Group(z, posterior, prior))
    return z

  def result(self, parameters: base.Array) -> Pass:
    """The whole pass."""
    return Pass(parameters, tuple(self.groups))


def _gaussian(out: base.Array) -> tuple[base.Array, base.Array]:
  mean, log_std = jnp.split(out, 2, axis=-1)
  return mean, jnp.clip(log_std, -LIMIT, LIMIT)


def combined(estimate: tuple, prior: tuple) -> tuple[base.Array, base.Array]:
  """The normalized product of two Gaussians, weighted by their precisions.

  Source: Ladder Variational Autoencoders, Sonderby et al., 2016, arXiv:1602.02282,
  eq. 17 and 18.

  Args:
    estimate: mean and log deviation `[...]`.
    prior: likewise.

  Returns:
    Mean and log deviation `[...]`.
  """
  (m, s), (m_p, s_p) = estimate, prior
  log_precision = jnp.logaddexp(-2.0 * s, -2.0 * s_p)
  weight = jnp.exp(-2.0 * s - log_precision)
  return weight * m + (1.0 - weight) * m_p, -0.5 * log_precision


class _Dense(nn.Module):
  """Two layers and a linear one."""

  hidden: int
  size: int

  @nn.compact
  def __call__(self, x):
    for _ in range(2):
      x = nn.gelu(nn.Dense(self.hidden)(x))
    return nn.Dense(self.size)(x)


class Ladder(nn.Module):
  """The ladder: the way up gives estimates, the way down corrects them.

  The estimate of a group from the data is combined with the group's prior, which knows
  the codes above it: so that upper groups are learned at all.

  Source: Ladder Variational Autoencoders, Sonderby et al., 2016, arXiv:1602.02282,
  section 2.2.

  Attributes:
    sizes: of the groups of codes, from the top.
    hidden: units of every layer.
    shape: of the parameters of one example's observation.
    num_levels: L of data in [0, L); None of data that are taken as they are.
  """

  sizes: Sequence[int]
  hidden: int
  shape: Shape
  num_levels: int | None = None

  @property
  def code_shapes(self) -> tuple[Shape, ...]:
    """The shapes of one example, from the top."""
    return tuple((size,) for size in self.sizes)

  @nn.compact
  def __call__(
    self,
    x: base.Array | None,
    noise: Sequence[base.Array],
    codes: Sequence[base.Array] | None = None,
    *,
    train: bool = False,
  ) -> Pass:
    """Passes up from x `[B, ...]`, if there is one, and down; see the module."""
    del train
    estimates: list[Any] = [None] * len(self.sizes)
    if x is not None:
      h = layers.scaled_levels(x, self.num_levels).reshape(len(x), -1)
      for i in reversed(range(len(self.sizes))):  # from the data to the top
        h = _Dense(self.hidden, self.hidden, name=f'up_{i}')(h)
        h = nn.LayerNorm(name=f'norm_{i}')(h)
        estimates[i] = _gaussian(nn.Dense(2 * self.sizes[i], name=f'estimate_{i}')(h))
    groups = _Descent(noise, codes)
    num = len((noise if codes is None else codes)[0])
    z = None
    for i, size in enumerate(self.sizes):
      if z is None:
        p = jnp.zeros((num, size)), jnp.zeros((num, size))
      else:
        p = _gaussian(_Dense(self.hidden, 2 * size, name=f'prior_{i}')(z))
      q = p
      if x is not None:
        q = estimates[i] if z is None else combined(estimates[i], p)
      z = groups.add(p, q)
    out = _Dense(self.hidden, math.prod(self.shape), name='output')(z)
    return groups.result(out.reshape(num, *self.shape))


NEIGHBORS = tuple((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1))


class _Block(nn.Module):
  """A bottleneck of convolutions; `scale` multiplies the start of the last one's."""

  features: int
  middle: int
  scale: float = 1.0

  @nn.compact
  def __call__(self, x):
    # By taps: the library's convolutions have slow gradients in a scan on a CPU.
    offsets = NEIGHBORS if x.shape[1] > 1 else ((0, 0),)
    x = nn.Dense(self.middle)(nn.gelu(x))
    for _ in range(2):
      x = pixelcnn.Taps(offsets, self.middle)(nn.gelu(x))
    init = nn.initializers.variance_scaling(self.scale**2, 'fan_in', 'truncated_normal')
    init = init if self.scale else nn.initializers.zeros
    return nn.Dense(self.features, kernel_init=init)(nn.gelu(x))


class TopDown(nn.Module):
  """Residual blocks of images of growing size, with a group of codes each.

  A block's prior is a function of what comes from above, its posterior also of what the
  way up has at this size; both go on with what the prior's network gives beside, and
  with the code. The last convolutions begin small: by 1 / sqrt(blocks) on both ways,
  and at 0 where the prior is made.

  Source: Very Deep VAEs Generalize Autoregressive Models and Can Outperform Them on
  Images, Child, 2021, arXiv:2011.10650, section 3 and appendix.

  Attributes:
    sizes: height and width of every block's image, from the top, not falling; each
      divides the data's. Where the last is below that, a place of it is a patch.
    features: channels.
    channels: of the codes.
    shape: of the parameters of one example's observation, [H, W, ...].
    num_levels: L of data in [0, L); None of data that are taken as they are.
  """

  sizes: Sequence[int]
  features: int
  channels: int
  shape: Shape
  num_levels: int | None = None

  @property
  def code_shapes(self) -> tuple[Shape, ...]:
    """The shapes of one example, from the top."""
    return tuple((size, size, self.channels) for size in self.sizes)

  @nn.compact
  def __call__(
    self,
    x: base.Array | None,
    noise: Sequence[base.Array],
    codes: Sequence[base.Array] | None = None,
    *,
    train: bool = False,
  ) -> Pass:
    """Passes up from images `[B, H, W, C]`, if there are any, and down."""
    del train
    height = self.shape[0]
    if any(height % size for size in self.sizes) or list(self.sizes) != sorted(
      self.sizes
    ):
      raise ValueError(
        f'sizes must grow and divide the height {height}, got {tuple(self.sizes)}'
      )
    small = 1.0 / math.sqrt(len(self.sizes))
    middle = max(1, self.features // 4)

    def block(name, scale, features=self.features):
      return _Block(features, middle, scale, name=name)

    seen = {} if x is None else self._upwards(x, block, small)
    groups = _Descent(noise, codes)
    num = len((noise if codes is None else codes)[0])
    h, last = None, None
    for i, size in enumerate(self.sizes):
      if size != last:  # a learned image begins every size
        bias = self.param(
          f'begin_{size}', nn.initializers.zeros, (size, size, self.features)
        )
        h = bias if h is None else _resized(h, size) + bias
        h = jnp.broadcast_to(h, (num, size, size, self.features))
        last = size
      out = block(f'prior_{i}', 0.0, 2 * self.channels + self.features)(h)
      p = _gaussian(out[..., : 2 * self.channels])
      q = p
      if x is not None:
        both = jnp.concatenate([h, seen[size]], axis=-1)
        q = _gaussian(block(f'posterior_{i}', 1.0, 2 * self.channels)(both))
      z = groups.add(p, q)
      h = h + out[..., 2 * self.channels :] + nn.Dense(
        self.features, name=f'code_{i}',
        kernel_init=nn.initializers.variance_scaling(
          small**2, 'fan_in', 'truncated_normal'
        ),
      )(z)  # fmt: skip
      h = h + block(f'residual_{i}', small)(h)
    return groups.result(self._output(h))

  def _output(self, h):
    """Parameters of the observation: a patch of them of every place."""
    num, size, *_ = h.shape
    side, size_of_one = self.shape[0] // size, math.prod(self.shape[2:])
    out = nn.Dense(side * side * size_of_one, name='output')(h)
    out = out.reshape(num, size, size, side, side, size_of_one)
    return out.transpose(0, 1, 3, 2, 4, 5).reshape(num, *self.shape)

  def _upwards(self, x, block, small):
    """The features of the data at every size, by size."""
    x = layers.scaled_levels(x, self.num_levels)
    side = x.shape[1] // max(self.sizes)
    num, size = len(x), max(self.sizes)
    x = x.reshape(num, size, side, size, side, -1).transpose(0, 1, 3, 2, 4, 5)
    h = nn.Dense(self.features, name='patches')(x.reshape(num, size, size, -1))
    seen = {}
    for size in sorted(set(self.sizes), reverse=True):
      h = _pooled(h, size)
      h = h + block(f'up_{size}', small)(h)
      seen[size] = h
    return seen


def _pooled(x: base.Array, size: int) -> base.Array:
  window = x.shape[1] // size
  return nn.avg_pool(x, (window, window), (window, window)) if window > 1 else x


def _resized(x: base.Array, size: int) -> base.Array:
  """Repeats pixels of square images up to a size."""
  times = size // x.shape[-2]
  return jnp.repeat(jnp.repeat(x, times, axis=-3), times, axis=-2)


def noise(key: base.Array, module: nn.Module, num: int) -> tuple[base.Array, ...]:
  """Draws the noise of a pass for `num` examples, a key a group."""
  keys = jax.random.split(key, len(module.code_shapes))
  return tuple(
    jax.random.normal(k, (num, *shape))
    for k, shape in zip(keys, module.code_shapes, strict=True)
  )
