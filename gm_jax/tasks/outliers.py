"""Outliers by the scores of a model, and how well these tell them from test data.

A score is a function of one example, the higher the more of an outlier:

  energy      E(x); of a normalized density it is -log p(x)
  gradient    |grad_x E(x)|, large where a small step changes the density much: the
              approximate mass of Grathwohl et al. is minus that
  classifier  -max_y log p(y | x), by the query `classify`
  likelihood  -log p(x) of raw data: exact, its bound or its estimate, by the card

A density may be higher of outliers than of what it was trained on: an area below 1/2 is
no mistake. A method that has no such score says so in a sentence (`scores_of`).

Source: Your Classifier is Secretly an Energy Based Model and You Should Treat it Like
One, Grathwohl et al., 2020, arXiv:1912.03263, section 5.3; A Baseline for Detecting
Misclassified and Out-of-Distribution Examples in Neural Networks, Hendrycks and
Gimpel, 2017, arXiv:1610.02136.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gm_jax import base
from gm_jax.metrics import detection
from gm_jax.tasks import density, results

HELD_OUT = 'held_out'  # the split of outliers, as data sets name it
# (model, key, raw x [B, ...]) -> [B]
Score = Callable[[base.Model, base.Array, base.Array], base.Array]


class Scores(NamedTuple):
  """The scores that a method serves, and why it does not serve the others.

  found: score by name.
  blank: a sentence by name.
  """

  found: Mapping[str, Score]
  blank: Mapping[str, str]


def _energy(method: base.Method, spec: base.DataSpec) -> Score:
  query = results.query_of(method, 'energy')
  return lambda model, key, x: query(model, key, x)


def _gradient(method: base.Method, spec: base.DataSpec) -> Score:
  query = results.query_of(method, 'energy')
  if not jnp.issubdtype(spec.dtype, jnp.floating):
    raise ValueError('a gradient needs real numbers, and these data are integers')

  def score(model, key, x):
    gradient = jax.grad(lambda x: query(model, key, x).sum())(x)
    return jnp.linalg.norm(gradient.reshape(len(x), -1), axis=1)

  return score


def _classifier(method: base.Method, spec: base.DataSpec) -> Score:
  query = results.query_of(method, 'classify')

  def score(model, key, x):
    return -jax.nn.log_softmax(query(model, key, x)).max(axis=1)

  return score


def _likelihood(method: base.Method, spec: base.DataSpec) -> Score:
  found = density.score_of(method)
  if method.card.condition:
    what = ' and '.join(method.card.condition)
    raise ValueError(f'this likelihood is of x given {what}, which outliers have not')
  if found.shared:
    raise ValueError('this likelihood is the energy and a log Z of all examples alike')

  def score(model, key, x):
    nats = found.nats(model, key, x, condition=None)
    return -(nats[0] if found.is_estimate else nats)

  return score


# (method, spec) -> score of x in model space; raises ValueError with the reason why not
SCORES: Mapping[str, Callable[[base.Method, base.DataSpec], Score]] = {
  'energy': _energy,
  'gradient': _gradient,
  'classifier': _classifier,
  'likelihood': _likelihood,
}


def scores_of(
  method: base.Method,
  model: base.Model,
  spec: base.DataSpec,
  names: Sequence[str] = tuple(SCORES),
) -> Scores:
  """The scores of a method, tried by shape.

  Args:
    method: any.
    model: its parameters; nothing of them is computed.
    spec: of the data.
    names: of SCORES.

  Returns:
    Scores of x in model space `[B, ...]`, and sentences of those that it lacks.

  Raises:
    ValueError: an unknown name.
  """
  found, blank = {}, {}
  for name in names:
    if name not in SCORES:
      raise ValueError(f'no score {name!r}; there are: {", ".join(SCORES)}')
    try:
      score = SCORES[name](method, spec)
      x = jax.ShapeDtypeStruct((2, *spec.shape), spec.dtype)
      out = jax.eval_shape(score, model, jax.random.key(0), x)
      if out.shape != (2,):
        raise ValueError(f'scores of 2 examples must be [2], got {list(out.shape)}')
    except ValueError as error:
      blank[name] = ' '.join(str(error).split())
    else:
      found[name] = score
  return Scores(found, blank)


def outliers(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
  *,
  names: Sequence[str] = tuple(SCORES),
  num: int | None = None,
) -> base.Result:
  """How well the scores of a method tell outliers from test data.

  Args:
    method: any; scores that it does not serve are left out, see `scores_of`.
    model: its parameters.
    key: of queries that draw.
    arrays: raw, by split: 'test', inliers, and 'held_out', outliers.
    spec: of the data.
    names: of SCORES.
    num: examples of each split, at most; None for all.

  Returns:
    Of each score `auroc_NAME`, with `..._error` and the ends `..._low` and `..._high`
    of a 95% interval by DeLong, `aupr_NAME` and `fpr95_NAME`, outliers the positives;
    arrays `NAME_test` and `NAME_held_out` `[N]` of scores.

  Raises:
    ValueError: the method serves none of them, or a split is missing.
  """
  scores = scores_of(method, model, spec, names)
  if not scores.found:
    whys = '; '.join(f'{name}: {why}' for name, why in scores.blank.items())
    raise ValueError(f'this method has no score of outliers: {whys}')
  pair = [
    jnp.asarray(results.split_of(arrays, split)['x'][:num])
    for split in ('test', HELD_OUT)
  ]
  size = f'N = {len(pair[1])} outliers of {len(pair[0]) + len(pair[1])}'
  values, found = {}, {}
  for name, score in scores.found.items():
    ends = [_scored(name, score, model, key, spec, raw) for raw in pair]
    area = detection.auroc(*ends)
    found |= {f'{name}_test': ends[0], f'{name}_{HELD_OUT}': ends[1]}
    values |= {
      f'auroc_{name}': (area.value, f'area under the ROC curve, {size}'),
      f'auroc_{name}_error': (area.standard_error, 'standard error by DeLong'),
      f'auroc_{name}_low': (area.low, 'lower end of 95%, of the logit, by DeLong'),
      f'auroc_{name}_high': (area.high, 'upper end of 95%, of the logit, by DeLong'),
      f'aupr_{name}': (
        detection.average_precision(*ends), f'average precision, {size}'
      ),
      f'fpr95_{name}': (
        detection.false_positive_rate(*ends),
        f'inliers taken for outliers where 95% of these are found, {size}',
      ),
    }  # fmt: skip
  return base.Result(values, found)


def _scored(name, score, model, key, spec, raw) -> base.Array:
  noise_key, key = jax.random.split(key)
  x = spec.transform.forward(noise_key, raw)
  values = density.in_chunks(lambda x: score(model, key, x), x)
  # Densities of different transforms compare as densities of raw data alone.
  if name == 'likelihood' and spec.transform.measure == 'density':
    values = values - spec.transform.log_det(noise_key, raw)
  return values
