"""How well scores tell outliers from what a model was trained on.

Outliers are the positives, and a higher score says outlier. M scores are of inliers,
N of outliers; ties count half in the area under the ROC curve, and fall on one side
together elsewhere. Everything sorts: O((M + N) log(M + N)), and no M x N array. A score
that is NaN makes the number NaN; infinities are scores like others.

  AUROC = P(outlier > inlier) + P(outlier = inlier) / 2

Source of its error: Comparing the Areas under Two or More Correlated Receiver Operating
Characteristic Curves: A Nonparametric Approach, DeLong et al., 1988, Biometrics 44.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gm_jax.losses import shapes

Array = jax.Array
NORMAL_95 = 1.959963984540054  # the normal distribution's quantile at .975


class Area(NamedTuple):
  """An area under a ROC curve.

  value: [].
  standard_error: [] DeLong's; NaN where there is a single inlier or outlier.
  low, high: [] ends of a 95% interval, of the logit of the area by the delta method, so
    that it lies between 0 and 1; of an area of 0 or 1 it is that point, which is too
    narrow.
  """

  value: Array
  standard_error: Array
  low: Array
  high: Array


def auroc(inliers: Array, outliers: Array) -> Area:
  """The area under the ROC curve, exactly, with DeLong's standard error.

  With v(y) the fraction of inliers below an outlier y, and w(x) that of outliers above
  an inlier x, ties counted half, the area is the mean of either, and its variance

  var(v) / N + var(w) / M

  Args:
    inliers: `[M]` scores.
    outliers: `[N]` scores.

  Returns:
    The area, its error and its interval.

  Raises:
    ValueError: scores that are not `[M]` and `[N]`, or none.
  """
  inliers, outliers = _scores(inliers, outliers)
  above = _fractions_below(inliers, outliers)  # v
  below = 1.0 - _fractions_below(outliers, inliers)  # w
  value = jnp.mean(above)
  variance = _variance_of_mean(above) + _variance_of_mean(below)
  error = jnp.sqrt(variance)
  inside = (value > 0) & (value < 1)
  safe = jnp.where(inside, value, 0.5)
  logit = jnp.log(safe) - jnp.log1p(-safe)
  half = NORMAL_95 * error / (safe * (1.0 - safe))
  ends = (jnp.where(inside, jax.nn.sigmoid(logit + s * half), value) for s in (-1, 1))
  return Area(*(_or_nan(a, inliers, outliers) for a in (value, error, *ends)))


def average_precision(inliers: Array, outliers: Array) -> Array:
  """The area under the curve of precision and recall, outliers the positives.

  mean over outliers y of  #(outliers >= y) / #(scores >= y),

  which interpolates nothing. Of scores that tell nothing it is N / (M + N) in the
  limit: it depends on how many outliers there are.

  Args:
    inliers: `[M]` scores.
    outliers: `[N]` scores.

  Returns:
    `[]`.

  Raises:
    ValueError: scores that are not `[M]` and `[N]`, or none.
  """
  inliers, outliers = _scores(inliers, outliers)
  hits, alarms = (_at_least(s, outliers) for s in (outliers, inliers))
  return _or_nan(jnp.mean(hits / (hits + alarms)), inliers, outliers)


def false_positive_rate(
  inliers: Array, outliers: Array, *, true_positive_rate: float = 0.95
) -> Array:
  """The fraction of inliers that is taken for outliers where most of those are found.

  Args:
    inliers: `[M]` scores.
    outliers: `[N]` scores.
    true_positive_rate: the least fraction of outliers at or above the threshold, in
      (0, 1]; the threshold is the largest score of an outlier with it.

  Returns:
    `[]`.

  Raises:
    ValueError: scores that are not `[M]` and `[N]`, or none, or a rate out of range.
  """
  if not 0 < true_positive_rate <= 1:
    raise ValueError(f'true_positive_rate must be in (0, 1], got {true_positive_rate}')
  inliers, outliers = _scores(inliers, outliers)
  # .95 of 20 is 19, whatever the last digit of the product.
  found = max(1, math.ceil(true_positive_rate * len(outliers) - 1e-9))
  threshold = jnp.sort(outliers)[len(outliers) - found]
  return _or_nan(jnp.mean(inliers >= threshold), inliers, outliers)


def bootstrap(
  key: Array,
  statistic: Callable[[Array, Array], Array],
  inliers: Array,
  outliers: Array,
  *,
  num: int = 200,
) -> Array:
  """The standard error of a statistic, both sets drawn again with replacement.

  Args:
    key: `[]` typed key of the draws.
    statistic: (inliers `[M]`, outliers `[N]`) -> `[]`.
    inliers: `[M]` scores.
    outliers: `[N]` scores.
    num: of draws.

  Returns:
    `[]`.

  Raises:
    ValueError: scores that are not `[M]` and `[N]`, or none, or less than two draws.
  """
  if num < 2:
    raise ValueError(f'num must be >= 2, for an error, got {num}')
  inliers, outliers = _scores(inliers, outliers)

  def resampled(key):
    keys = jax.random.split(key)
    both = zip(keys, (inliers, outliers), strict=True)
    return statistic(*(jax.random.choice(k, s, s.shape) for k, s in both))

  return jax.lax.map(resampled, jax.random.split(key, num)).std(ddof=1)


def _scores(inliers: Array, outliers: Array) -> tuple[Array, Array]:
  inliers, outliers = shapes.floats(inliers=inliers, outliers=outliers)
  for name, values in (('inliers', inliers), ('outliers', outliers)):
    if values.ndim != 1 or not values.size:
      raise ValueError(f'{name} must be scores [N], one or more, got {values.shape}')
  return inliers, outliers


def _fractions_below(scores: Array, points: Array) -> Array:
  """The fraction of scores below each point `[P]`, equal ones counted half."""
  scores = jnp.sort(scores)
  left, right = (jnp.searchsorted(scores, points, side=s) for s in ('left', 'right'))
  return (left + right) / (2.0 * len(scores))


def _at_least(scores: Array, points: Array) -> Array:
  """How many scores are at or above each point `[P]`."""
  return len(scores) - jnp.searchsorted(jnp.sort(scores), points, side='left')


def _variance_of_mean(values: Array) -> Array:
  if len(values) == 1:
    return jnp.full((), jnp.nan)
  return values.var(ddof=1) / len(values)


def _or_nan(number: Array, *scores: Array) -> Array:
  """NaN sorts last, and would pass for the highest score."""
  bad = jnp.stack([jnp.isnan(s).any() for s in scores]).any()
  return jnp.where(bad, jnp.nan, number)
