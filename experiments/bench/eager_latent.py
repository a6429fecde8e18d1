"""The rows of `bench.latent` in eager PyTorch, from the parameters of ours.

A decoder is a list of (kernel [in, out], bias) tensors.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional

Layers = Sequence[tuple[torch.Tensor, torch.Tensor]]


def layers(params: Mapping, where: torch.device) -> Layers:
  """Our perceptron's parameters, layer by layer."""
  parts = [params[f'Dense_{i}'] for i in range(len(params))]
  return [
    tuple(torch.tensor(np.asarray(p[k]), device=where) for k in ('kernel', 'bias'))
    for p in parts
  ]


def decode(net: Layers, z: torch.Tensor) -> torch.Tensor:
  """The decoder's output."""
  for i, (kernel, bias) in enumerate(net):
    z = torch.addmm(bias, functional.relu(z) if i else z, kernel)
  return z


def normal_each(mean, log_std, z) -> torch.Tensor:
  """Log-densities of Gaussians, elementwise."""
  squares = ((z - mean) * torch.exp(-log_std)) ** 2
  return -0.5 * squares - log_std - 0.5 * math.log(2 * math.pi)


def log_joint(net: Layers, z, x, std: float) -> torch.Tensor:
  """log p(z) + log p(x | z) [N], with Gaussian noise."""
  zero = torch.zeros((), device=z.device)
  noise = zero + math.log(std)
  return normal_each(zero, zero, z).sum(1) + normal_each(decode(net, z), noise, x).sum(
    1
  )


def value_and_gradient(net: Layers, z, x, std: float):
  """log p(z, x) [N] and its gradient [N, Z]."""
  z = z.detach().requires_grad_(True)
  value = log_joint(net, z, x, std)
  return value.detach(), torch.autograd.grad(value.sum(), z)[0]


def _trajectory(net, z, m, x, std, step_size, num_leapfrog):
  before, gradient = value_and_gradient(net, z, x, std)
  m = m + 0.5 * step_size * gradient
  for i in range(num_leapfrog):
    z = z + step_size * m
    after, gradient = value_and_gradient(net, z, x, std)
    m = m + (0.5 if i == num_leapfrog - 1 else 1.0) * step_size * gradient
  return z, m, before, after


def leapfrog(net: Layers, z, m, x, std: float, *, step_size: float, num_leapfrog: int):
  """Position and momentum after leapfrog steps."""
  return _trajectory(net, z, m, x, std, step_size, num_leapfrog)[:2]


def hmc(net: Layers, z, x, std: float, *, step_size: float, num_leapfrog: int):
  """A transition of HMC of every chain."""
  m = torch.randn_like(z)
  new, end, before, after = _trajectory(net, z, m, x, std, step_size, num_leapfrog)
  ratio = after - before + 0.5 * (m**2).sum(1) - 0.5 * (end**2).sum(1)
  accepted = torch.rand(len(z), device=z.device) < torch.exp(ratio.clamp(max=0.0))
  return torch.where(accepted[:, None], new, z)


@torch.no_grad()
def log_weights(net: Layers, mean, log_std, x, noise) -> torch.Tensor:
  """log w [num, B] of the draws that noise [num, B, Z] makes."""
  z = mean + torch.exp(log_std) * noise
  logits = decode(net, z.flatten(0, 1)).reshape(*z.shape[:2], -1)
  log_p = (x * logits - functional.softplus(logits)).sum(-1)
  zero = torch.zeros((), device=z.device)
  prior = normal_each(zero, zero, z).sum(-1)
  return log_p + prior - normal_each(mean, log_std, z).sum(-1)


@torch.no_grad()
def importance_bound(net: Layers, mean, log_std, x, num: int, chunk: int):
  """The importance-weighted bound [B], a chunk of draws at a time."""
  total = torch.full((len(mean),), -torch.inf, device=mean.device)
  for start in range(0, num, chunk):
    noise = torch.randn(min(chunk, num - start), *mean.shape, device=mean.device)
    found = log_weights(net, mean, log_std, x, noise)
    total = torch.logaddexp(total, torch.logsumexp(found, 0))
  return total - math.log(num)


def elbo(encoder: Layers, decoder: Layers, x, noise) -> torch.Tensor:
  """The evidence lower bound [B] of binary images, at the draw that noise makes."""
  mean, log_std = decode(encoder, x).chunk(2, 1)
  logits = decode(decoder, mean + torch.exp(log_std) * noise)
  log_p = (x * logits - functional.softplus(logits)).sum(1)
  kl = 0.5 * (torch.expm1(2 * log_std) + mean**2) - log_std
  return log_p - kl.sum(1)


def vae_steps(encoder: Layers, decoder: Layers, data: torch.Tensor, rate: float):
  """A function that makes one step of Adam on every batch of data [steps, B, D]."""
  nets = [[tuple(t.clone() for t in pair) for pair in n] for n in (encoder, decoder)]
  leaves = [t.requires_grad_(True) for net in nets for pair in net for t in pair]
  tx = torch.optim.Adam(leaves, lr=rate)
  size = decoder[0][0].shape[0]

  def steps():
    for x in data:
      noise = torch.randn(len(x), size, device=x.device)
      loss = -elbo(*nets, x, noise).mean()
      tx.zero_grad()
      loss.backward()
      tx.step()
    return loss.detach()

  return steps


@torch.no_grad()
def nearest(z: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
  """The numbers of the nearest codes."""
  distances = torch.addmm((codes**2).sum(1), z, codes.T, alpha=-2.0)
  return distances.argmin(1)
