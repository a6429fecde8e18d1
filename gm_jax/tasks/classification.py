"""A model as a classifier: how often it is right, and whether it knows.

For methods with the query `classify`, whatever else they are. The error of calibration
depends on the number of its bins and of the examples, which its kind says.
"""

from collections.abc import Mapping

import jax.numpy as jnp

from gm_jax import base, statistics
from gm_jax.metrics import calibration
from gm_jax.tasks import density, results

BINS = 15


def classification(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
  *,
  num: int | None = None,
  num_bins: int = BINS,
) -> base.Result:
  """Accuracy and calibration of the test split's labels.

  Args:
    method: with the query `classify`.
    model: its parameters.
    key: of the query.
    arrays: raw, by split, with the labels of 'test'.
    spec: of the data.
    num: test examples, at most; None for all.
    num_bins: of the confidence, of equal width.

  Returns:
    `accuracy`, `classification_nll` in nats and `brier`, each with `..._error`, and
    `calibration_error`, the expected one; the array `logits` `[N, C]`.

  Raises:
    ValueError: the method does not classify, or the test split has no labels.
  """
  query = results.query_of(method, 'classify')
  test = results.in_model_space(spec, results.split_of(arrays, 'test'), num)
  if 'label' not in test:
    raise ValueError(
      f'classification needs labels, and the test split has {sorted(test)}'
    )
  label = jnp.asarray(test['label'], jnp.int32)
  logits = density.in_chunks(lambda x: query(model, key, x), test['x'])
  size = f'N = {len(label)}'
  each = {
    'accuracy': (logits.argmax(axis=1) == label, f'fraction, {size}'),
    'classification_nll': (
      calibration.negative_log_likelihood(logits, label), f'nats, {size}'
    ),
    'brier': (calibration.brier(logits, label), f'sum over classes, {size}'),
  }  # fmt: skip
  values = {}
  for name, (numbers, kind) in each.items():
    mean, error = statistics.mean_and_error(numbers.astype(jnp.float32))
    values[name] = mean, kind
    values[f'{name}_error'] = error, f'standard error over {len(label)} examples'
  ece = calibration.expected_calibration_error(logits, label, num_bins=num_bins)
  values['calibration_error'] = ece, f'{num_bins} bins of equal width, {size}'
  return base.Result(values, {'logits': logits})
