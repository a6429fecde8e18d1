"""The Frechet distance between Gaussians fitted to two sets of features.

The squared Wasserstein-2 distance of N(mean1, cov1) and N(mean2, cov2), in the
unit of the features squared. On Inception features it is the FID; on any others
it is a number of its own, to be reported with the name of the extractor and the
number of samples, on which its bias depends.
"""

import chex
import jax
import jax.numpy as jnp

from gm_jax.losses import divergence, shapes

Array = jax.Array


def frechet_distance(mean1: Array, cov1: Array, mean2: Array, cov2: Array) -> Array:
  """The squared Wasserstein-2 distance between two Gaussians.

  See `losses.divergence.gaussian_wasserstein2_squared`.

  Source: GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
  Equilibrium, Heusel et al., 2017, arXiv:1706.08500, eq. 6.

  Args:
    mean1: `[D]` of the first set.
    cov1: `[D, D]` covariance of the first set, symmetric.
    mean2: `[D]` of the second set.
    cov2: `[D, D]` covariance of the second set, symmetric.

  Returns:
    `[]` in the unit of the features squared; rounding below zero is cut off.

  Raises:
    ValueError: means that are not [D] or covariances that are not [D, D].
  """
  return divergence.gaussian_wasserstein2_squared(mean1, cov1, mean2, cov2)


def moments(features: Array) -> tuple[Array, Array]:
  """The mean and the unbiased covariance of features.

  m = 1/N sum_i f_i,  S = 1/(N - 1) sum_i (f_i - m)(f_i - m)^T

  Batch-coupled.

  Source: GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
  Equilibrium, Heusel et al., 2017, arXiv:1706.08500, section 4, whose code
  divides by N - 1.

  Args:
    features: `[N, D]` features, N >= 2.

  Returns:
    `[D]` mean and `[D, D]` covariance.

  Raises:
    ValueError: features not of rank 2, or fewer than two rows.
  """
  (features,) = shapes.floats(features=features)
  message = 'features must be [N, D]'
  chex.assert_rank(features, 2, custom_message=message, exception_type=ValueError)
  num = features.shape[0]
  if num < 2:
    raise ValueError(f'features need two rows or more, got {num}')
  # Centered first: the second moment less the squared mean would cancel, and a sum of
  # many numbers far from 0 loses digits, which the mean of what is left adds again.
  mean = features.mean(axis=0)
  mean = mean + (features - mean).mean(axis=0)
  centered = features - mean
  product = jnp.matmul(centered.T, centered, precision=jax.lax.Precision.HIGHEST)
  return mean, product / (num - 1)


def frechet(features1: Array, features2: Array) -> Array:
  """The Frechet distance between two sets of features.

  `frechet_distance` of the two sets' `moments`. Biased upwards for finite N:
  compare only values with the same N. Batch-coupled.

  Source: GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
  Equilibrium, Heusel et al., 2017, arXiv:1706.08500, eq. 6.

  Args:
    features1: `[N, D]` features of one set, N >= 2.
    features2: `[M, D]` features of the other, M >= 2.

  Returns:
    `[]` in the unit of the features squared.

  Raises:
    ValueError: features not of rank 2, fewer than two rows, or two D.
  """
  features1, features2 = shapes.floats(features1=features1, features2=features2)
  if features1.shape[1:] == features2.shape[1:]:
    # The distance does not depend on the origin: near the features it costs no digits.
    center = jax.lax.stop_gradient(features2.mean(axis=0))
    features1, features2 = features1 - center, features2 - center
  return frechet_distance(*moments(features1), *moments(features2))
