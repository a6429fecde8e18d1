"""Flows of vectors by zuko and nflows, in the budget of our own.

A maker of `PEERS` gives a PyTorch module with `log_prob`, or None where the package is
not installed. The spline couplings of nflows have the residual networks and the linear
maps of ours; those of zuko are masked perceptrons of two layers, the order of numbers
reversed after each.
"""

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


def zuko_maf(size: int, budget) -> Any | None:
  """Masked affine layers of two hidden layers, as our own."""
  return _zuko('MAF', size, budget)


def zuko_nsf(size: int, budget) -> Any | None:
  """Couplings with splines in [-5, 5], their parameters by masked perceptrons."""
  return _zuko('NSF', size, budget, bins=budget.num_bins, passes=2)


def _zuko(kind: str, size: int, budget, **more) -> Any | None:
  try:
    import torch
    import zuko
  except ImportError:
    return None
  torch.manual_seed(0)
  hidden = (budget.width, budget.width)
  network = getattr(zuko.flows, kind)(
    size, transforms=budget.num_layers, hidden_features=hidden, **more
  )
  network.log_prob = lambda x: network().log_prob(x)
  return network


def nflows_nsf(size: int, budget) -> Any | None:
  """Couplings with splines, residual networks, a linear map before each."""
  try:
    import torch
    from nflows import distributions, flows, nn, transforms
  except ImportError:
    return None
  torch.manual_seed(0)

  def make(inputs, outputs):
    return nn.nets.ResidualNet(
      inputs, outputs, hidden_features=budget.width, num_blocks=2
    )

  parts, mask = [], torch.arange(size) % 2
  for i in range(budget.num_layers):
    parts += [
      transforms.RandomPermutation(size),
      transforms.LULinear(size, identity_init=True),
      transforms.PiecewiseRationalQuadraticCouplingTransform(
        (mask + i) % 2, make, num_bins=budget.num_bins, tails='linear',
        tail_bound=budget.box,
      ),
    ]  # fmt: skip
  return flows.Flow(
    transforms.CompositeTransform(parts), distributions.StandardNormal((size,))
  )


PEERS: dict[str, dict[str, Callable]] = {
  'MAF': {'zuko': zuko_maf},
  'RQ-NSF': {'zuko': zuko_nsf, 'nflows': nflows_nsf},
}


def log_prob(network: Any) -> Callable:
  """(state of the network, x [B, D]) -> [B] nats."""
  import torch

  scorer = copy.deepcopy(network)
  if 'log_prob' in vars(scorer):  # zuko's, which closes over the first
    scorer.log_prob = lambda x: scorer().log_prob(x)

  def score(state, x):
    scorer.load_state_dict(state)
    with torch.no_grad():
      return scorer.log_prob(torch.from_numpy(x)).numpy()

  return score


def train(network: Any, batches: Iterator[np.ndarray], budget, best) -> dict[str, Any]:
  """Trains by Adam with the budget's rate, cosine and clip, in float32.

  Args:
    network: of `PEERS`.
    batches: `[B, D]`, as many as there are steps.
    budget: of `vectors`.
    best: is shown the parameters as often as the budget says.

  Returns:
    Steps, seconds of them alone and the number of parameters.
  """
  import torch

  params = [p for p in network.parameters() if p.requires_grad]
  tx = torch.optim.Adam(params, lr=budget.rate)
  schedule = torch.optim.lr_scheduler.CosineAnnealingLR(tx, budget.steps)
  every, began = max(1, budget.steps // budget.evaluations), time.perf_counter()
  for step in range(1, budget.steps + 1):
    tx.zero_grad()
    loss = -network.log_prob(torch.from_numpy(np.array(next(batches)))).mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(params, budget.clip)
    tx.step()
    schedule.step()
    if step % every == 0 or step == budget.steps:
      best.see(step, copy.deepcopy(network.state_dict()))
  seconds = time.perf_counter() - began - best.seconds
  size = sum(p.numel() for p in params)
  return {'steps': budget.steps, 'seconds': seconds, 'parameters': size}
