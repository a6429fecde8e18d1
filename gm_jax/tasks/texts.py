"""Do pictures say what their texts say? Agreement, margins and retrieval.

Captions of a fixed form have a word for each attribute, at a place of its own. Readers,
classifiers of real images trained apart from the model, read the attributes off its
samples; what of the caption they find again is its agreement. A reader errs on real
images too, which bounds what a perfect model could reach: print both.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gm_jax import base, conditions
from gm_jax.tasks import density, quality, results

BLOCK = 100  # examples among which one is to be found
FEATURES = 'image', 'text'  # of the query `encode`
WRONG, CHANCE = 'mismatched', 'chance'


class Attribute(NamedTuple):
  """One word of a caption of fixed form."""

  position: int  # of the word
  tokens: np.ndarray  # [K] that stand there; the class is the place in this list
  classify: Callable[[base.Array], base.Array]  # images [B, ...] -> [B, K] logits
  accuracy: float  # of it, on real images that it was not trained on


def classes_of(text: base.Array, attribute: Attribute) -> base.Array:
  """The class of an attribute in captions `[N, T]`, `[N]` int32; -1 of other words."""
  same = text[:, attribute.position, None] == jnp.asarray(attribute.tokens)
  return jnp.where(same.any(axis=1), same.argmax(axis=1), -1)


def agreement(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
  *,
  attributes: Mapping[str, Attribute],
  num: int = 2000,
) -> base.Result:
  """How often samples show each attribute of their captions, split by split.

  Args:
    method: with samples, conditioned on 'text'.
    model: its parameters.
    key: of the samples.
    arrays: raw, by split, with captions.
    spec: of the data.
    attributes: by name.
    num: samples of a split, at most: one a caption.

  Returns:
    Fractions `SPLIT_NAME`, `SPLIT_all` of samples with all of them, and, means over
    attributes, `SPLIT_mismatched` of the captions of others and `SPLIT_chance`: how
    often two captions of the split agree.

  Raises:
    ValueError: a split without captions, or a method that is given none.
  """
  values = {}
  for i, split in enumerate(arrays):
    data = _fixed(spec, results.split_of(arrays, split), num)
    condition = results.condition_of(method.card, data)
    if 'text' not in data or condition is None:
      raise ValueError(
        f'agreement needs captions, and a model of them: {split} has none'
      )
    text, size = data['text'], len(data['x'])
    other, _ = conditions.mismatched(text)
    own_key = jax.random.fold_in(key, i)
    x = method.sample(model, own_key, size, condition=condition)
    right, wrong, chance = {}, [], []
    for name, attribute in attributes.items():
      read = density.in_chunks(attribute.classify, x).argmax(axis=1)
      asked = classes_of(text, attribute)
      right[name] = read == asked
      wrong.append(read == asked[other])
      chance.append(asked == asked[other])
    kind = f'fraction by a classifier, N = {size}'
    for name, found in right.items():
      accuracy = f'right on {attributes[name].accuracy:.1%} of real images'
      values[f'{split}_{name}'] = found.mean(), f'{kind}, {accuracy}'
    everything = jnp.stack(list(right.values())).all(axis=0)
    values[f'{split}_all'] = everything.mean(), kind
    values[f'{split}_{WRONG}'] = jnp.stack(wrong).mean(), f'{kind}, captions of others'
    means = 'fraction, of two captions'
    values[f'{split}_{CHANCE}'] = jnp.stack(chance).mean(), means
  return base.Result(values)


def margin(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
  *,
  num: int = quality.TEST,
) -> base.Result:
  """How much higher a critic puts real images with their texts than with another's.

  Args:
    method: with the query `critic`.
    model: its parameters.
    key: of the query.
    arrays: raw, by split; the test split is read.
    spec: of the data.
    num: test examples, at most.

  Returns:
    `margin`, the mean difference of logits, and `margin_positive`, how often it is
    above 0.

  Raises:
    ValueError: the method has no critic, or the model takes no condition.
  """
  data = _fixed(spec, results.split_of(arrays, 'test'), num)
  condition = results.condition_of(method.card, data)
  if condition is None:
    raise ValueError('a margin of texts needs a model with a condition')
  other, _ = conditions.mismatched(condition)
  query = results.query_of(method, 'critic')
  right, wrong = (
    query(model, key, data['x'], condition=c) for c in (condition, condition[other])
  )
  difference, kind = right - wrong, f'N = {len(right)}'
  return base.Result({
    'margin': (difference.mean(), f'mean of logits, {kind}'),
    'margin_positive': ((difference > 0).mean(), f'fraction, {kind}'),
  })  # fmt: skip


def retrieval(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
  *,
  split: str = 'test',
  block: int = BLOCK,
) -> base.Result:
  """How often an image's own text has the highest cosine among those of a block.

  Args:
    method: with the query `encode`, that gives features of image and text.
    model: its parameters.
    key: of the query.
    arrays: raw, by split.
    spec: of the data.
    split: that is read, in blocks; the rest is left out.
    block: N, texts to choose from. One equal to the image's own is right too.

  Returns:
    `retrieval`, a fraction, and of a model that draws `retrieval_of_samples`: of its
    samples for these texts in place of real images. `retrieval_chance`: of a guess.

  Raises:
    ValueError: no such query, or fewer examples than a block.
  """
  data = _fixed(spec, results.split_of(arrays, split))
  num = len(data['x']) // block * block
  if block < 2 or not num:
    raise ValueError(f'block must be from 2 to {len(data["x"])}, got {block}')
  condition = results.condition_of(method.card, data)
  query = results.query_of(method, 'encode')
  condition = condition[:num]
  images = {'retrieval': data['x'][:num]}
  if method.sample:
    samples = method.sample(model, key, num, condition=condition)
    images['retrieval_of_samples'] = samples

  def encode(x, c):
    found = query(model, key, x, condition=c)
    return {k: v / jnp.linalg.norm(v, axis=1, keepdims=True) for k, v in found.items()}

  words = condition.reshape(-1, block, *condition.shape[1:])
  same = (words[:, :, None] == words[:, None]).all(axis=3)  # [blocks, block, block]
  values, kind = {}, f'fraction, one text of {block}, N = {num}'
  for name, x in images.items():
    found = density.in_chunks(encode, x, condition)
    image, text = (found[k].reshape(-1, block, found[k].shape[1]) for k in FEATURES)
    best = (image @ text.swapaxes(1, 2)).argmax(axis=2)  # [blocks, block]
    right = jnp.take_along_axis(same, best[..., None], axis=2)
    values[name] = right.mean(), kind
  values['retrieval_chance'] = same.mean(), f'{kind}, of a text drawn at random'
  return base.Result(values)


def _fixed(spec: base.DataSpec, arrays: base.Batch, num: int | None = None) -> dict:
  """A split in model space, which XLA would fold as constants for long."""
  return jax.lax.optimization_barrier(results.in_model_space(spec, arrays, num))
