"""Autoregressive models in PyTorch, from the parameters of ours.

Each takes a tree of tensors, nested as our parameters are. NADE is written in the two
ways that people write it: a loop over positions, and all running sums at once.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import torch
from torch.nn import functional


def tensors(params: Any, where: torch.device) -> Any:
  """The tree of arrays as one of tensors that take gradients."""
  return jax.tree.map(
    lambda p: torch.tensor(np.asarray(p), device=where, requires_grad=True), params
  )


def nade_loop(p: Mapping, x: torch.Tensor) -> torch.Tensor:
  """log p(x) [B] of NADE, position after position."""
  total, running = torch.zeros(len(x), device=x.device), p['hidden_bias']
  for i in range(x.shape[1]):
    logit = p['bias'][i] + torch.sigmoid(running) @ p['decoder'][i]
    value = x[:, i]
    total = total + value * logit - functional.softplus(logit)
    running = running + value[:, None] * p['encoder'][i]
  return total


def nade_sums(p: Mapping, x: torch.Tensor) -> torch.Tensor:
  """The same with all running sums [B, D, H] in memory."""
  added = x[:, :, None] * p['encoder']
  running = p['hidden_bias'] + torch.cumsum(added, dim=1) - added
  logits = torch.einsum('bdh,dh->bd', torch.sigmoid(running), p['decoder'])
  logits = logits + p['bias']
  return (x * logits - functional.softplus(logits)).sum(dim=1)


def nade_samples(p: Mapping, num: int) -> torch.Tensor:
  """Samples [num, D], a hidden layer remembered."""
  running, values = p['hidden_bias'].expand(num, -1), []
  for weights, out, bias in zip(p['encoder'], p['decoder'], p['bias'], strict=True):
    chance = torch.sigmoid(bias + torch.sigmoid(running) @ out)
    value = torch.bernoulli(chance)
    values.append(value)
    running = running + value[:, None] * weights
  return torch.stack(values, dim=1)


def made(p: Mapping, masks: Mapping, x: torch.Tensor) -> torch.Tensor:
  """log p(x) [B] of MADE with two hidden layers."""
  h = x
  for i, mask in enumerate(masks['layers']):
    h = (functional.relu(h) if i else h) @ (p[f'kernel_{i}'] * mask) + p[f'bias_{i}']
  logits = h + x @ (p['direct'] * masks['direct'])
  return (x * logits - functional.softplus(logits)).sum(dim=1)


def transformer(p: Mapping, heads: int, x: torch.Tensor) -> torch.Tensor:
  """log p(x) [B] of the causal transformer over tokens."""

  def dense(layer, h):
    out = h @ layer['kernel']
    return out + layer['bias'] if 'bias' in layer else out

  def norm(layer, h):
    weights = layer['scale'], layer['bias']
    return functional.layer_norm(h, h.shape[-1:], *weights, eps=1e-6)

  before = p['tokens']['embedding'][x[:, :-1]]
  first = p['first'].expand(len(x), 1, -1)
  h = torch.cat([first, before], dim=1) + p['places']
  for i in range(sum(name.startswith('blocks_') for name in p)):
    block = p[f'blocks_{i}']
    parts = dense(block['to_qkv'], norm(block['norms_0'], h)).chunk(3, dim=-1)
    shape = (*h.shape[:2], heads, -1)
    query, key, value = (part.reshape(shape).transpose(1, 2) for part in parts)
    attend = functional.scaled_dot_product_attention
    out = attend(query, key, value, is_causal=True).transpose(1, 2).reshape(h.shape)
    h = h + dense(block['from_heads'], out)
    up = functional.gelu(
      dense(block['up'], norm(block['norms_1'], h)), approximate='tanh'
    )
    h = h + dense(block['down'], up)
  logits = dense(p['head'], norm(p['norm'], h))
  nats = functional.cross_entropy(logits.flatten(0, 1), x.flatten(), reduction='none')
  return -nats.reshape(x.shape).sum(dim=1)


def stepper(
  log_prob: Callable, params: Any, x: torch.Tensor, rate: float
) -> tuple[Callable, Callable]:
  """A training step with Adam, and a function that gives the loss of the parameters."""
  leaves = jax.tree.leaves(params)
  fused = {'fused': True}
  optimizer = torch.optim.Adam(leaves, lr=rate, **fused)

  def step():
    optimizer.zero_grad(set_to_none=True)
    loss = -log_prob(params, x).mean()
    loss.backward()
    optimizer.step()
    return loss

  return step, lambda: float(-log_prob(params, x).mean().detach())


def waiting(function: Callable, where: torch.device) -> Callable:
  """The function, done when it returns, and nothing of it kept."""

  def call():
    function()
    if where.type == 'cuda':
      torch.cuda.synchronize()

  return call
