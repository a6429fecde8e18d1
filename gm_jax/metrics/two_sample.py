"""Tests of whether two sets of samples are from one distribution.

Both give a p-value: the probability, were it one distribution, of a statistic at least
as large. A test that does not reject is no proof of equality; the size of the sets and
the kernel, or the classifier, say which differences it would have seen.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.scipy import special

from gm_jax.losses import discrepancy
from gm_jax.metrics import features, rows

Array = jax.Array

CLIP = 10.0  # of standardized features: an outlier is far, and no farther


class C2ST(NamedTuple):
  """The result of a classifier two-sample test."""

  accuracy: Array  # [] of held-out rows whose set the classifier tells
  p_value: Array  # [] probability of as many right by guessing


def permutation_test(
  key: Array,
  x: Array,
  y: Array,
  *,
  kernel: discrepancy.Kernel,
  num_permutations: int = 500,
) -> tuple[Array, Array]:
  """The permutation test of the maximum mean discrepancy.

  p = (1 + #{permutations whose MMD^2 >= that of x and y}) / (1 + num_permutations)

  of the unbiased MMD^2, under random divisions of all rows into N and M. Exact: under
  the null hypothesis P(p <= a) <= a for any number of rows, whatever the kernel, so
  long as its width was not chosen on how x and y differ (`median_bandwidth` of both
  together is fair). The Gram matrix [N + M, N + M] is held once; ties, up to rounding,
  count against rejection. Batch-coupled.

  Source: A Kernel Two-Sample Test, Gretton et al., 2012, JMLR 13, for the statistic;
  Permutation P-values Should Never Be Zero, Phipson and Smyth, 2010, for the p-value.

  Args:
    key: `[]` typed key of the permutations.
    x: `[N, D]` draws from p, N >= 2.
    y: `[M, D]` draws from q, M >= 2.
    kernel: symmetric, (`[N, D]`, `[M, D]`) -> `[N, M]`.
    num_permutations: of permutations; the least p-value is 1 / (1 + of them).

  Returns:
    `[]` MMD^2 in the unit of the kernel, and `[]` p-value, both NaN where x or y are
    traced and not finite.

  Raises:
    ValueError: rows that are not [number, D] of one D or not finite, fewer than two
      rows, or no permutations.
  """
  x, y = rows.check(x=x, y=y)
  num, other = x.shape[0], y.shape[0]
  if min(num, other) < 2:
    raise ValueError(f'x and y need two rows or more each, got {num} and {other}')
  if num_permutations < 1:
    raise ValueError(f'num_permutations must be >= 1, got {num_permutations}')
  pooled = jnp.concatenate([x, y])
  diagonal = jnp.eye(num + other, dtype=bool)
  gram = jnp.where(diagonal, 0.0, kernel(pooled, pooled))
  # The statistic is the same for a kernel less a constant, and keeps more digits.
  typical = gram.sum(axis=1).mean() / (num + other - 1)
  gram = jnp.where(diagonal, 0.0, gram - typical)
  labels = jnp.arange(num + other) < num  # of x
  keys = jax.random.split(key, num_permutations)
  shuffled = jax.vmap(lambda key: jax.random.permutation(key, labels))(keys)
  of_x = jnp.concatenate([labels[None], shuffled]).astype(gram.dtype)
  product = jnp.matmul(of_x, gram, precision=jax.lax.Precision.HIGHEST)
  within_x = (product * of_x).sum(axis=1)
  across = (product * (1.0 - of_x)).sum(axis=1)
  within_y = gram.sum() - within_x - 2.0 * across
  statistics = (
    within_x / (num * (num - 1))
    + within_y / (other * (other - 1))
    - 2.0 * across / (num * other)
  )
  rounding = 16.0 * jnp.finfo(gram.dtype).eps * jnp.abs(gram).mean()
  as_large = (statistics[1:] >= statistics[0] - rounding).sum()
  p_value = (1.0 + as_large) / (1.0 + num_permutations)
  return tuple(rows.where_finite(v, x, y) for v in (statistics[0], p_value))


def _standardize(train: Array, x: Array) -> Array:
  """Rows x in units of the training rows' spread about their median, clipped."""
  low, center, high = jnp.quantile(train, jnp.array([0.1, 0.5, 0.9]), axis=0)
  spread = (high - low) / 2.0
  # Where most are equal, as pixels of the background, by the standard deviation.
  spread = jnp.where(spread > 0, spread, (train - center).std(axis=0))
  spread = jnp.where(spread > 0, spread, 1.0)
  return jnp.clip((x - center) / spread, -CLIP, CLIP)


def classifier_test(
  key: Array,
  x: Array,
  y: Array,
  *,
  network: nn.Module | None = None,
  steps: int = 500,
  batch_size: int = 128,
  learning_rate: float = 2e-3,
) -> C2ST:
  """The classifier two-sample test: can a trained classifier tell the sets apart?

  p = P(Binomial(n, 1/2) >= right),  n held-out rows, `right` of them told

  A random half of min(N, M) rows of each set trains the classifier and the others test
  it, so that guessing is right in one half. The probability is exact in float32, not
  the normal one of the paper; as both sets give the same number of rows to the test,
  it is never too small. Features are put in units of their spread in the training
  half and clipped, so that an offset or an outlier does not keep the network from
  learning. Batch-coupled.

  Source: Revisiting Classifier Two-Sample Tests, Lopez-Paz and Oquab, 2017,
  arXiv:1610.06545.

  Args:
    key: `[]` typed key of the halves and of training.
    x: `[N, D]` draws from p, N >= 4.
    y: `[M, D]` draws from q, M >= 4.
    network: as `metrics.features` describes, of two classes; by default a perceptron
      of two hidden layers.
    steps: of training.
    batch_size: rows a step.
    learning_rate: at the peak of the schedule.

  Returns:
    `[]` accuracy on the held-out half and `[]` p-value; NaN where x or y are traced
    and not finite.

  Raises:
    ValueError: rows that are not [number, D] of one D or not finite, or fewer than four
      rows.
  """
  x, y = rows.check(x=x, y=y)
  num = min(x.shape[0], y.shape[0])
  if num < 4:
    raise ValueError(
      f'x and y need four rows or more each, got {x.shape[0]} and {y.shape[0]}'
    )
  x_key, y_key, fit_key = jax.random.split(key, 3)
  half = num // 2
  halves = [
    jnp.split(jax.random.permutation(k, part)[:num], [half])
    for k, part in ((x_key, x), (y_key, y))
  ]
  train, test = (jnp.concatenate(parts) for parts in zip(*halves, strict=True))
  labels = jnp.repeat(jnp.arange(2), half, total_repeat_length=2 * half)
  classifier = features.train_classifier(
    fit_key,
    _standardize(train, train),
    labels,
    network=network or features.Perceptron(2, hidden=64, num_features=32),
    steps=steps,
    batch_size=batch_size,
    learning_rate=learning_rate,
  )
  logits = classifier.logits(classifier.params, _standardize(train, test))
  count = 2 * (num - half)
  of_y = jnp.arange(count) >= num - half
  right = ((logits[:, 1] > logits[:, 0]) == of_y).sum()
  # P(Binomial(n, 1/2) >= r) is a regularized incomplete beta function, and 1 for r = 0.
  r = jnp.maximum(right, 1).astype(logits.dtype)
  p_value = jnp.where(right > 0, special.betainc(r, count - r + 1.0, 0.5), 1.0)
  found = right / count, p_value
  # The logits too: training that went astray is no test.
  return C2ST(*(rows.where_finite(value, x, y, logits) for value in found))
