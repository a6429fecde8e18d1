"""Scikit-learn's handwritten digits: 1797 real 8x8 images of 17 levels, bundled.

The test set of the UCI repository's optical recognition of handwritten digits;
small enough to train on in seconds without any download.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from gm_jax import base
from gm_jax.data import dataset

NUM_LEVELS = 17
SHAPE = (8, 8, 1)
_SIZES = {'test': 360, 'validation': 180, 'train': 1257}


def plain_transform() -> base.Transform:
  """x = raw / 8 - 1: the 17 levels on a lattice in [-1, 1]; a mass."""
  return base.Transform(
    forward=lambda key, raw: jnp.asarray(raw, jnp.float32) / 8 - 1,
    inverse=lambda x: jnp.clip(jnp.round((x + 1) * 8), 0, 16).astype(jnp.int32),
    log_det=lambda key, raw: jnp.zeros(raw.shape[0]),
    measure='mass',
  )


def dequantizing_transform() -> base.Transform:
  """x = 2 (raw + u) / 17 - 1 with u uniform on [0, 1)^D; a density.

  The log-determinant is D log(2 / 17) nats. The mean log-density of x, with it
  added, is at most the log-mass of raw.

  Source: A Note on the Evaluation of Generative Models, Theis et al., 2016,
  arXiv:1511.01844, section 3.1.
  """

  def forward(key, raw):
    # Uniform to 16 bits, at midpoints: float32 then never rounds raw + u up
    # into the next level, and the inverse is right for every draw.
    noise = (jax.random.bits(key, raw.shape, 'uint16') + 0.5) / 2**16
    return (raw + noise) * (2 / NUM_LEVELS) - 1

  def inverse(x):
    return jnp.clip(jnp.floor((x + 1) * (NUM_LEVELS / 2)), 0, 16).astype(jnp.int32)

  def log_det(key, raw):
    return jnp.full(raw.shape[0], math.prod(raw.shape[1:]) * math.log(2 / NUM_LEVELS))

  return base.Transform(forward, inverse, log_det, 'density')


def _stratified(label: np.ndarray) -> dict[str, np.ndarray]:
  """Indices by split, each class in proportion: sorted by rank within class."""
  shuffled = np.random.default_rng(0).permutation(len(label))
  quantile = np.empty(len(label))
  for value in np.unique(label):
    members = shuffled[label[shuffled] == value]
    quantile[members] = (np.arange(len(members)) + 0.5) / len(members)
  ends = np.cumsum(list(_SIZES.values()))[:-1]
  return dict(zip(_SIZES, np.split(np.argsort(quantile), ends), strict=True))


def _raw_splits() -> dict[str, dict]:
  from sklearn import datasets  # heavy

  bunch = datasets.load_digits()
  raw = bunch.images.astype(np.int32).reshape(-1, *SHAPE)
  label = bunch.target.astype(np.int32)
  return {
    split: {'x': raw[index], 'label': label[index]}
    for split, index in _stratified(label).items()
  }


def digits(*, dequantize: bool = False) -> dataset.Dataset:
  """The digits, `x` [B, 8, 8, 1] float32 in [-1, 1] and `label` [B] int32.

  Splits, fixed and stratified: 'train' 1257, 'validation' 180, 'test' 360.

  Source: Optical Recognition of Handwritten Digits, Alpaydin and Kaynak, 1998,
  UCI Machine Learning Repository, doi:10.24432/C50P49, as bundled by scikit-learn.

  Args:
    dequantize: whether to add uniform noise within the levels, afresh in every
      batch, a function of (seed, position); `arrays` adds a fixed draw.

  Returns:
    A Dataset, its transform's measure 'density' if dequantized, else 'mass'.
  """
  transform = dequantizing_transform() if dequantize else plain_transform()
  spec = base.DataSpec(SHAPE, jnp.float32, NUM_LEVELS, 10, None, transform)
  splits = _raw_splits()
  if dequantize:
    return _noisy(dataset.in_memory('digits', spec, splits))
  for split in splits.values():
    split['x'] = np.asarray(transform.forward(jax.random.key(0), split['x']))
  return dataset.in_memory('digits', spec, splits)


def _noisy(raw: dataset.Dataset) -> dataset.Dataset:
  """The Dataset whose transform is applied to each batch of a raw one."""
  forward = jax.jit(raw.spec.transform.forward)

  def stream(seed, split):
    return jax.random.fold_in(jax.random.key(seed), list(_SIZES).index(split))

  def batches(split, batch_size, *, seed, start=0):
    batches = raw.batches(split, batch_size, seed=seed, start=start)
    for position, batch in enumerate(batches, start):
      key = jax.random.fold_in(stream(seed, split), position)
      yield {**batch, 'x': forward(key, batch['x'])}

  def arrays(split, num=None):
    data = raw.arrays(split, None)
    data['x'] = forward(stream(0, split), data['x'])
    return {name: value[:num] for name, value in data.items()}

  return raw._replace(batches=batches, arrays=arrays)
