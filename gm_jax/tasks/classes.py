"""Classes of samples: whether they are the ones asked for, and what codes tell.

For methods whose samples are conditioned on a class, and for those that have classes of
their own, codes that nobody named.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from gm_jax import base
from gm_jax.losses import mutual_information
from gm_jax.metrics import diversity
from gm_jax.tasks import density, quality, results


def labelled_samples(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
  num: int,
) -> tuple[base.Array, base.Array]:
  """Samples for the conditions of the test split in turn, and their labels.

  Args:
    method: whose samples are conditioned on a label.
    model: its parameters.
    key: of the samples.
    arrays: raw, by split.
    spec: of the data.
    num: how many.

  Returns:
    Samples `[num, ...]` in model space, and the classes `[num]` that they are of.

  Raises:
    ValueError: the method has no samples of a class, or the test split no labels.
  """
  if method.sample is None or 'label' not in method.card.condition:
    known = ', '.join(method.card.condition) or 'nothing'
    raise ValueError(f'samples of a class are needed; this method is given {known}')
  test = results.in_model_space(spec, results.split_of(arrays, 'test'))
  condition = results.repeated(results.condition_of(method.card, test), num)
  label = condition['label'] if isinstance(condition, dict) else condition
  return method.sample(model, key, num, condition=condition), label


def agreement(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
  *,
  classify: Callable[[base.Array], base.Array],
  accuracy: float,
  num: int = quality.TEST,
) -> base.Result:
  """How often samples of a class are read as it, and how different they are within it.

  The classifier errs on real images too, and samples may differ more than these do, by
  noise: 1 bounds no diversity.

  Args:
    method: whose samples are conditioned on a label.
    model: its parameters.
    key: of the samples.
    arrays: raw, by split.
    spec: of the data.
    classify: images in [-1, 1] `[B, H, W, C]` -> logits `[B, K]`, trained
      independently of the method.
    accuracy: of that classifier, on real images that it has not seen.
    num: how many samples, of the test split's conditions in turn.

  Returns:
    `agreement`, the fraction read as the class that was asked for; `accuracy_on_real`,
    to be read beside it; `diversity`, the mean distance of two samples of a class over
    that of two test images of it, averaged over classes.

  Raises:
    ValueError: as `labelled_samples`.
  """
  x, label = labelled_samples(method, model, key, arrays, spec, num)
  with jax.ensure_compile_time_eval():  # of the data alone, whatever is traced
    test = results.in_model_space(spec, results.split_of(arrays, 'test'), quality.TEST)
    real = _within_classes(spec, test['x'], jnp.asarray(test['label']))
  right = classify(quality.scaled(spec, x)).argmax(axis=1) == label
  ratio = jnp.nanmean(_within_classes(spec, x, label) / real)
  return base.Result({
    'agreement': (right.mean(), f'fraction read as the class asked for, N = {num}'),
    'accuracy_on_real': (
      jnp.asarray(accuracy), 'fraction of test images read right by that classifier'
    ),
    'diversity': (ratio, f'distance in a class, of samples by real, N = {num}'),
  })  # fmt: skip


def _within_classes(spec, x, label):
  return diversity.within_classes(
    quality.scaled(spec, x), label, num_classes=spec.num_classes
  )


def categorical_code(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
  *,
  num_classes: int,
  num: int = quality.TEST,
) -> base.Result:
  """A code of K values: what its samples tell of it, and it of real classes.

  Args:
    method: with the query `cluster`, and samples conditioned on the code.
    model: its parameters.
    key: of the samples.
    arrays: raw, by split; 'train' and 'test' with labels, for the error.
    spec: of the data.
    num_classes: K, of the code.
    num: how many samples, of the code's values in turn.

  Returns:
    `information`, the bound E log Q(c | x) + log K in nats over samples; of data with
    classes `class_error`, the fraction of test examples whose most likely code belongs
    to another class: a code belongs to the class that is most frequent among its
    training examples.

  Raises:
    ValueError: the method lacks the query or samples.
  """
  if method.sample is None:
    raise ValueError('this method has no samples to read codes off')
  query = results.query_of(method, 'cluster')
  label = jnp.arange(num) % num_classes
  logits = query(model, key, method.sample(model, key, num, condition=label))
  bound = mutual_information.categorical(logits, label).mean()
  kind = f'lower bound, nats, at most log {num_classes}, N = {num}'
  values = {'information': (bound, kind)}
  if not spec.num_classes:
    return base.Result(values)

  def read(split):
    data = results.in_model_space(spec, results.split_of(arrays, split))
    logits = density.in_chunks(lambda x: query(model, key, x), data['x'])
    return logits.argmax(axis=1), jnp.asarray(data['label'], jnp.int32)

  code, classes = read('train')
  counts = jnp.zeros((num_classes, spec.num_classes), jnp.int32)
  owner = counts.at[code, classes].add(1).argmax(axis=1)
  code, classes = read('test')
  error = jnp.mean(owner[code] != classes)
  kind = f'fraction, each code the most frequent class of it in train, N = {len(code)}'
  return base.Result({**values, 'class_error': (error, kind)})
