"""Denoising diffusion probabilistic models: T steps of noise, undone one by one.

  q(x_t | x) = N(alpha_t x, sigma_t^2),   alpha_t^2 = prod_{s <= t} (1 - beta_s)
  min_F E_x E_t E_e  w(t) |F(x_t, t) - e|^2,   t = 1..T

With w = 1 it is the simplified bound. The denoiser may predict the noise, the data or
the velocity, and be drawn from by any sampler and in fewer steps.

Source: Denoising Diffusion Probabilistic Models, Ho et al., 2020, arXiv:2006.11239;
w as min(snr, limit) / snr: Efficient Diffusion Training via Min-SNR Weighting
Strategy, Hang et al., 2023, arXiv:2303.09556.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import optax

from gm_jax import base, conditions, denoisers, diffusion, processes, times
from gm_jax.losses import denoising
from gm_jax.samplers import diffusion as samplers

SAMPLERS = {'ancestral': samplers.ancestral, **diffusion.SAMPLERS}


def ddpm(
  network: nn.Module,
  tx: optax.GradientTransformation,
  *,
  shape: Sequence[int],
  betas: Sequence[float],
  form: denoisers.Parameterization = denoisers.NOISE,
  snr_limit: float = math.inf,
  bound: float | None = None,
  condition: conditions.Condition | None = None,
) -> base.Method:
  """A diffusion model of T steps.

  Args:
    network: F, (x `[B, *shape]`, 1000 t / T `[B]`, condition, train) -> `[B, *shape]`.
    tx: the optimizer.
    shape: of an example.
    betas: `[T]`, `processes.linear_betas` or `processes.cosine_betas`.
    form: what F is.
    snr_limit: the signal to noise ratio above which errors of the data count as there;
      infinite for w = 1. Only where F is the noise.
    bound: to which sampling cuts the absolute values of what it predicts the data to
      be, 1 for pixels in [-1, 1], or None.
    condition: of the network, or None; `optional`, it can be guided to.

  Returns:
    The method. Options of sampling: `num_steps`, `sampler`, `guidance`.

  Raises:
    ValueError: betas outside (0, 1), a limit of another form or not above 0; when
      called, data of another shape.
  """
  if not snr_limit > 0 or (form is not denoisers.NOISE and snr_limit < math.inf):
    raise ValueError(f'snr_limit must be > 0, and infinite but for noise: {snr_limit}')
  num, process = len(betas), processes.from_betas(betas)
  parts = diffusion.Denoising(
    network, process, form, shape, times.even(process), condition, SAMPLERS,
    bound,
  )  # fmt: skip

  def draw(key, count):
    return jax.random.randint(key, (count,), 1, num + 1) / num

  def weight(t):
    return denoising.min_snr_noise(process.log_snr(t), limit=snr_limit)

  weight = None if math.isinf(snr_limit) else weight
  return diffusion.method(parts, tx, draw, weight=weight, num_steps=num)
