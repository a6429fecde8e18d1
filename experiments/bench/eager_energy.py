"""Langevin chains and a training step of an energy in eager PyTorch.

As the tutorials have them: gradients of the images alone while chains run, a buffer of
images in memory, Adam of the library. Weights are ours, turned to PyTorch's layouts.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn


def network(params: Mapping, features: Sequence[int], side: int) -> nn.Module:
  """A `models.energies.ConvolutionalEnergy` of one channel, with its weights."""
  layers, i = [], 1
  for n, o in enumerate(features):
    layers += [nn.Conv2d(i, o, 4, 2, 1) if n else nn.Conv2d(i, o, 3, 1, 1), nn.SiLU()]
    i = o
  last = side // 2 ** (len(features) - 1)
  hidden = params['Dense_0']['bias'].shape[0]
  layers += [nn.Flatten(), nn.Linear(i * last * last, hidden), nn.SiLU()]
  module = nn.Sequential(*layers, nn.Linear(hidden, 1))
  with torch.no_grad():
    for own, value in zip(module.parameters(), layout(params), strict=True):
      own.copy_(torch.tensor(value))
  return module


def layout(params: Mapping) -> list[np.ndarray]:
  """Our parameters, or a gradient, in PyTorch's order and shapes."""
  names = sorted(params, key=lambda n: ('SameConv', 'DownConv', 'Dense').index(n[:-2]))
  found, channels = [], 0
  for name in names:
    kernel = np.asarray(params[name]['kernel'])
    if kernel.ndim == 4:
      channels = kernel.shape[3]
      kernel = kernel.transpose(3, 2, 0, 1)
    elif name == 'Dense_0':  # of pixels and channels, there of channels and pixels
      kernel = kernel.reshape(-1, channels, kernel.shape[1]).transpose(2, 1, 0)
      kernel = kernel.reshape(len(kernel), -1)
    else:
      kernel = kernel.T
    found += [np.ascontiguousarray(kernel), np.asarray(params[name]['bias'])]
  return found


def slope(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
  """The gradient of the energies in the images."""
  x = x.detach().requires_grad_(True)
  return torch.autograd.grad(module(x).sum(), x)[0]


def chains(
  module: nn.Module,
  x: torch.Tensor,
  *,
  num_steps: int,
  step_size: float,
  noise_scale: float,
  largest: float,
) -> torch.Tensor:
  """Images after steps of Langevin dynamics in [-1, 1], their gradient cut."""
  for _ in range(num_steps):
    gradient = slope(module, x).clamp_(-largest, largest)
    x = x - step_size * gradient + noise_scale * torch.randn_like(x)
    x = x.clamp_(-1.0, 1.0)
  return x


def loss(module: nn.Module, data, negatives, weight: float) -> torch.Tensor:
  """E(x) - E(x') and the penalty of their squares, the mean."""
  energy, other = module(torch.cat([data, negatives]))[:, 0].chunk(2)
  return (energy - other + weight * (energy**2 + other**2)).mean()


def stepper(
  module: nn.Module,
  data: torch.Tensor,
  buffer: torch.Tensor,
  *,
  rate: float,
  fresh: float,
  weight: float,
  **sizes,
):
  """A function that makes one step of training by chains of a buffer."""
  optimizer = torch.optim.Adam(module.parameters(), rate)

  def step():
    index = torch.randperm(len(buffer), device=data.device)[: len(data)]
    anew = torch.rand(len(data), 1, 1, 1, device=data.device) < fresh
    noise = 2 * torch.rand_like(data) - 1
    negatives = chains(module, torch.where(anew, noise, buffer[index]), **sizes)
    buffer[index] = negatives
    value = loss(module, data, negatives, weight)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value.detach()

  return step
