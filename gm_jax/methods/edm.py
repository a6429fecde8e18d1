"""EDM: a denoiser of every noise level, its inputs and targets of variance 1.

  min_F E_x E_sigma E_e |F(scale x_sigma, ln sigma / 4) - (x - skip x_sigma) / out|^2,
  x_sigma = x + sigma e,   ln sigma ~ N(mean, std^2)

  skip = d^2 / (sigma^2 + d^2),  out = sigma d scale,  scale = 1 / sqrt(sigma^2 + d^2)

With d the root mean square of the data the loss of an untrained network, whose output
is 0, is 1 at every noise level.

Source: Elucidating the Design Space of Diffusion-Based Generative Models, Karras et
al., 2022, arXiv:2206.00364.
"""

from collections.abc import Sequence

import flax.linen as nn
import optax

from gm_jax import base, conditions, denoisers, diffusion, processes, times
from gm_jax.samplers import diffusion as samplers

SAMPLERS = {'heun': samplers.heun, **diffusion.SAMPLERS}


def edm(
  network: nn.Module,
  tx: optax.GradientTransformation,
  *,
  shape: Sequence[int],
  data_std: float,
  mean: float = -1.2,
  std: float = 1.2,
  first: float = 0.002,
  last: float = 80.0,
  condition: conditions.Condition | None = None,
) -> base.Method:
  """A diffusion model whose time is the noise's deviation.

  Args:
    network: F, (x `[B, *shape]`, ln sigma / 4 `[B]`, condition, train) -> as x.
    tx: the optimizer.
    shape: of an example.
    data_std: d, the root mean square about 0 of the training set's numbers.
    mean: of ln sigma in training.
    std: its deviation.
    first: the smallest noise level of sampling, > 0.
    last: the largest.
    condition: of the network, or None; `optional`, it can be guided to.

  Returns:
    The method. Options of sampling: `num_steps`, `sampler`, `guidance`; by Heun's steps
    the network is evaluated twice a step but for the last.

  Raises:
    ValueError: a number out of range; when called, data of another shape.
  """
  process = processes.edm(first=first, last=last)
  parts = diffusion.Denoising(
    network, process, denoisers.edm(data_std), shape, times.karras(process), condition,
    SAMPLERS,
  )  # fmt: skip
  # The weight (sigma^2 + d^2) / (sigma d)^2 of errors of the data is 1 of those of F.
  draw = times.log_normal(process, mean, std)
  return diffusion.method(parts, tx, draw, num_steps=18)
