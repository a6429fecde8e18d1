"""Flow matching: a velocity that carries noise to data along straight lines.

  min_v E |v(x_t, t) - (e - x)|^2,   x_t = (1 - t) x + t e,   t in [0, 1]

A coupling says which noise stands beside which data: independent draws, or the pairing
of a batch that has the least sum of squared distances, for which the paths of the flow
are straighter. Batch-coupled in that case. Sampling integrates dx_t / dt = v from noise
at 1 to data at 0; the paper's time runs the other way. With its sigma_min above 0 (the
coupling of a target: every x is the center of a narrow Gaussian) the line ends there,
x_t = (1 - t) x + (sigma_min + (1 - sigma_min) t) e, and v is to be its derivative.

Source: Flow Matching for Generative Modeling, Lipman et al., 2023, arXiv:2210.02747;
Improving and Generalizing Flow-Based Generative Models with Minibatch Optimal
Transport, Tong et al., 2024, arXiv:2302.00482.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp
import optax

from gm_jax import base, conditions, denoisers, diffusion, processes, times
from gm_jax.samplers import diffusion as samplers

SAMPLERS = {'euler': samplers.euler, **diffusion.SAMPLERS}


def independent(x: base.Array, noise: base.Array) -> base.Array:
  """The noise as it was drawn, `[B, ...]`."""
  del x
  return noise


def optimal(x: base.Array, noise: base.Array) -> base.Array:
  """The noise in the order that is nearest to the data. Batch-coupled.

  An exact assignment, of B^3 operations.

  Args:
    x: `[B, ...]` data.
    noise: `[B, ...]`.

  Returns:
    `[B, ...]` noise, permuted.
  """
  a, b = (v.reshape(len(v), -1) for v in (x, noise))
  # Squared distances but for what no order changes.
  rows, columns = optax.assignment.hungarian_algorithm(-a @ b.T)
  order = jnp.zeros(len(x), jnp.int32).at[rows].set(columns)
  return noise[order]


def flow_matching(
  network: nn.Module,
  tx: optax.GradientTransformation,
  *,
  shape: Sequence[int],
  draw: Callable[[processes.Process], times.Times] = times.uniform,
  coupling: diffusion.Coupling = independent,
  sigma_min: float = 0.0,
  condition: conditions.Condition | None = None,
) -> base.Method:
  """A flow from noise to data by the regression of its velocity.

  Args:
    network: v, (x `[B, *shape]`, 1000 t `[B]`, condition, train) -> `[B, *shape]`.
    tx: the optimizer.
    shape: of an example.
    draw: of the times, `times.uniform` or `times.logit_normal`, of the process.
    coupling: (x, noise) -> noise.
    sigma_min: deviation of the noise that data keep, in [0, 1).
    condition: of the network, or None; `optional`, it can be guided to.

  Returns:
    The method. Options of sampling: `num_steps`, `sampler`, `guidance`.

  Raises:
    ValueError: `sigma_min` out of range; when called, data of another shape.
  """
  process = processes.rectified(sigma_min)
  parts = diffusion.Denoising(
    network, process, denoisers.FLOW, shape, times.even(process), condition, SAMPLERS
  )
  return diffusion.method(parts, tx, draw(process), coupling=coupling)
