"""The evidence by importance sampling, with as many draws as one likes.

  log p(x) >= E log 1/K sum_k w_k,  log w_k = log p(x, z_k) - log q(z_k | x),  z_k ~ q

The bound grows with K, from the ELBO at K = 1 to log p(x). `losses.variational.iwae` is
the same of draws held at once, for training; here only the sums of w and w^2 are kept,
as logarithms, so that thousands of draws fit in memory. Everything is in nats.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from gm_jax.losses import shapes

Array = jax.Array


def _log_sums(log_weights: Array) -> tuple[Array, Array]:
  """Logarithms of the sums of w and of w^2 over the first axis."""
  sums = (jax.nn.logsumexp(c * log_weights, axis=0) for c in (1.0, 2.0))
  return tuple(sums)


def _mean_and_error(first: Array, second: Array, num: int) -> tuple[Array, Array]:
  """The logarithm of the mean of `num` weights, by their log-sums, and its error."""
  mean = first - math.log(num)
  if num == 1:
    # By numpy: JAX_DEBUG_NANS takes a NaN made on a device for a mistake.
    return mean, jnp.asarray(np.full(mean.shape, np.nan, mean.dtype))
  # (K S2 / S1^2 - 1) / (K - 1) is the squared error of the mean over its square.
  spread = jnp.expm1(math.log(num) + second - 2.0 * first)
  return mean, jnp.sqrt(jnp.maximum(spread, 0.0) / (num - 1))


def log_mean(log_weights: Array) -> tuple[Array, Array]:
  """The logarithm of the mean of weights, and its standard error.

  log 1/K sum_k w_k,  error std(w) / (sqrt(K) mean(w))

  by the delta method, with the standard deviation of K - 1 degrees of freedom: first
  order in the relative error, so that above about 1 it says "large" and no more; and
  weights of heavy tails hide theirs until one is drawn.

  Args:
    log_weights: `[K, ...]` nats.

  Returns:
    `[...]` nats each; the error is NaN of a single weight.

  Raises:
    ValueError: there is no weight.
  """
  (log_weights,) = shapes.floats(log_weights=log_weights)
  if not log_weights.ndim or not len(log_weights):
    raise ValueError(f'log_weights must be [K, ...], K >= 1, got {log_weights.shape}')
  # Near 0 their differences keep their digits.
  peak = log_weights.max(axis=0)
  peak = jnp.where(jnp.isfinite(peak), peak, 0.0)
  mean, error = _mean_and_error(*_log_sums(log_weights - peak), len(log_weights))
  return mean + peak, error


def importance_bound(
  log_weights: Callable[[Array, int], Array],
  key: Array,
  num_samples: int,
  *,
  chunk: int = 100,
) -> tuple[Array, Array]:
  """The importance-weighted bound of K draws, a chunk of them at a time.

  log 1/K sum_k w_k

  Source: Importance Weighted Autoencoders, Burda et al., 2016, arXiv:1509.00519, eq. 8;
  with K = 5,000 the usual estimate of a variational auto-encoder's log p(x).

  Args:
    log_weights: (key, num) -> `[num, B]` nats of fresh draws, `num` a constant.
    key: `[]` typed key, folded with i for the i-th chunk.
    num_samples: K; what is left of it after full chunks is drawn as the last.
    chunk: draws held at once.

  Returns:
    `[B]` nats, a lower bound of log p(x) in expectation, and `[B]` its standard error
    over draws, as by `log_mean`.

  Raises:
    ValueError: `num_samples` or `chunk` below 1, or weights that are not [num, B].
  """
  for name, number in (('num_samples', num_samples), ('chunk', chunk)):
    if number < 1:
      raise ValueError(f'{name} must be >= 1, got {number}')
  chunk = min(chunk, num_samples)
  num_chunks, rest = divmod(num_samples, chunk)

  def sums_of(i, num):
    return _log_sums(log_weights(jax.random.fold_in(key, i), num))

  def add(sums, i):
    return jax.tree.map(jnp.logaddexp, sums, sums_of(i, chunk)), None

  one = jax.eval_shape(lambda key: log_weights(key, chunk), key)
  if one.ndim != 2 or one.shape[0] != chunk:
    raise ValueError(f'log_weights must return [{chunk}, B], got {list(one.shape)}')
  nothing = jnp.full(one.shape[1:], -jnp.inf, one.dtype)
  sums, _ = jax.lax.scan(add, (nothing, nothing), jnp.arange(num_chunks))
  if rest:
    sums = jax.tree.map(jnp.logaddexp, sums, sums_of(num_chunks, rest))
  return _mean_and_error(*sums, num_samples)
