"""Measures of latent variables: how a model uses them, by its posterior on data."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gm_jax.losses import shapes

Array = jax.Array


class ActiveUnits(NamedTuple):
  """The latent dimensions that depend on the data."""

  count: Array  # [] int32
  variances: Array  # [Z], over examples, of the posterior mean


def active_units(means: Array, *, threshold: float = 0.01) -> ActiveUnits:
  """The number of latent dimensions whose posterior mean varies with the data.

  Var_x(E_{q(z | x)}[z_u]) > threshold

  A dimension whose posterior is the prior whatever x is carries nothing. The variance
  is that of the N examples, divided by N.

  Source: Importance Weighted Autoencoders, Burda et al., 2016, arXiv:1509.00519,
  section 5.2.

  Args:
    means: `[N, Z]` posterior means, N >= 2.
    threshold: in the square of z's unit.

  Returns:
    `[]` the number of active dimensions, and `[Z]` the variances.

  Raises:
    ValueError: means that are not [N, Z] with N >= 2.
  """
  (means,) = shapes.floats(means=means)
  if means.ndim != 2 or len(means) < 2:
    raise ValueError(f'means must be [N, Z], N >= 2, got {means.shape}')
  variances = means.var(axis=0)
  return ActiveUnits((variances > threshold).sum(dtype=jnp.int32), variances)
