"""SNGAN's residual networks in eager PyTorch, as `bench.eager_gan` has the DCGAN's.

Spectral normalization is by one step of the power iteration a call, as ours. It is
written out: the library's takes the two halves of a step in the other order, and its
first gradients could not be compared.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

START = 4  # pixels that the generator begins with


def _conv(i: int, o: int, size: int = 3) -> nn.Conv2d:
  return nn.Conv2d(i, o, size, padding=size // 2)


def _halved(x: torch.Tensor) -> torch.Tensor:
  return functional.avg_pool2d(x, 2)


def _doubled(x: torch.Tensor) -> torch.Tensor:
  return functional.interpolate(x, scale_factor=2, mode='nearest')


class Spectral(nn.Module):
  """Divides a kernel [O, ...] by the largest singular value of it as a matrix."""

  def __init__(self, features: int):
    super().__init__()
    self.register_buffer('vector', torch.ones(features))

  def forward(self, kernel):
    matrix = kernel.flatten(1)
    with torch.no_grad():
      right = functional.normalize(matrix.T @ self.vector, dim=0)
      left = functional.normalize(matrix @ right, dim=0)
      if self.training:
        self.vector.copy_(left)
    return kernel / torch.dot(left, matrix @ right)


def _spectral(layer: nn.Module) -> nn.Module:
  parametrize.register_parametrization(
    layer, 'weight', Spectral(len(layer.weight)), unsafe=True
  )
  return layer


class UpBlock(nn.Module):
  """A block of the generator, which doubles height and width."""

  def __init__(self, features: int):
    super().__init__()
    self.first_norm = nn.BatchNorm2d(features)
    self.first = _conv(features, features)
    self.second_norm = nn.BatchNorm2d(features)
    self.second = _conv(features, features)
    self.shortcut = _conv(features, features, 1)

  def forward(self, x):
    y = self.first(_doubled(functional.relu(self.first_norm(x))))
    y = self.second(functional.relu(self.second_norm(y)))
    return y + self.shortcut(_doubled(x))


class DownBlock(nn.Module):
  """A block of the discriminator; the first of all has no activation before it."""

  def __init__(self, channels: int, features: int, halves: bool, first: bool):
    super().__init__()
    self.first = _spectral(_conv(channels, features))
    self.second = _spectral(_conv(features, features))
    self.is_first, self.halves = first, halves
    if halves:
      self.shortcut = _spectral(_conv(channels, features, 1))

  def forward(self, x):
    y = x if self.is_first else functional.relu(x)
    y = self.second(functional.relu(self.first(y)))
    if self.is_first:
      return _halved(y) + self.shortcut(_halved(x))
    return _halved(y) + _halved(self.shortcut(x)) if self.halves else y + x


class Summed(nn.Module):
  """Features summed over positions."""

  def forward(self, x):
    return functional.relu(x).sum(dim=(2, 3))


def generator(latent_size: int, channels: int, features: int, doublings: int):
  """The generator of `models.sngan`."""
  layers = [nn.Linear(latent_size, features * START**2)]
  layers += [nn.Unflatten(1, (features, START, START))]
  layers += [UpBlock(features) for _ in range(doublings)]
  layers += [nn.BatchNorm2d(features), nn.ReLU(), _conv(features, channels)]
  return nn.Sequential(*layers, nn.Tanh())


def discriminator(channels: int, features: int, halvings: int, num_blocks: int):
  """The discriminator of `models.sngan`, with its linear layer."""
  widths = [channels, *[features] * (num_blocks - 1)]
  blocks = [
    DownBlock(width, features, i < halvings, not i) for i, width in enumerate(widths)
  ]
  last = _spectral(nn.Linear(features, 1))
  return nn.Sequential(*blocks, Summed(), last)


def _kernel(value) -> np.ndarray:
  """[H, W, I, O] -> [O, I, H, W], [I, O] -> [O, I]."""
  value = np.asarray(value)
  return np.ascontiguousarray(np.moveaxis(value, (-1, -2), (0, 1)))


def generator_layout(params: Mapping) -> list:
  """A generator's parameters, or their gradients, in PyTorch's order and shapes."""

  def conv(i):
    layer = params[f'SameConv_{i}']
    return [_kernel(layer['kernel']), np.asarray(layer['bias'])]

  def norm(i):
    return [np.asarray(params[f'BatchNorm_{i}'][n]) for n in ('scale', 'bias')]

  def first(value):  # [..., (H, W, C)] -> [(C, H, W), ...]
    value = np.asarray(value)
    value = np.moveaxis(value.reshape(*value.shape[:-1], START, START, -1), -1, -3)
    return np.ascontiguousarray(value.reshape(*value.shape[:-3], -1).T)

  arrays = [first(params['Dense_0'][n]) for n in ('kernel', 'bias')]
  blocks = sum(name.startswith('SameConv') for name in params) // 3
  for i in range(blocks):
    arrays += norm(2 * i) + conv(3 * i) + norm(2 * i + 1) + conv(3 * i + 1)
    arrays += conv(3 * i + 2)
  return [*arrays, *norm(2 * blocks), *conv(3 * blocks)]


def discriminator_layout(params: Mapping) -> list:
  """As `generator_layout`; the bias of a normalized layer comes first."""
  names = sorted(params, key=lambda name: (name.startswith('Dense'), len(name), name))
  arrays = []
  for name in names:
    arrays += [np.asarray(params[name]['bias']), _kernel(params[name]['kernel'])]
  return arrays


def load_vectors(module: nn.Module, collections: Mapping) -> None:
  """Puts the vectors of our power iterations into a discriminator."""
  ours = collections['spectral']
  for i, theirs in enumerate(m for m in module.modules() if isinstance(m, Spectral)):
    values = ours[f'SpectralNorm_{i}']
    name = next(name for name in values if name.endswith('/u'))
    theirs.vector.copy_(torch.tensor(np.asarray(values[name])[0]))
