"""Tunes of a known distribution: what there is to learn in them is known to the bit.

A tune is 32 notes in four phrases A A B A of 8, in a major key drawn evenly from 12.
A phrase begins at an even one of 15 degrees, two octaves, and walks: -2 ... 2 degrees
with weights 1, 3, 2, 3, 1, those that would leave the two octaves taken away. A note is
its pitch, 0..35 semitones above C3. A short memory sees the steps, but neither the key
nor that a phrase comes back: `log_prob` says how much these are worth.
"""

import functools
import math

import jax.numpy as jnp
import numpy as np

from gm_jax import base
from gm_jax.data import dataset, transforms

PHRASE, FORM = 8, (0, 0, 1, 0)  # notes of a phrase, and which phrase is when
LENGTH = PHRASE * len(FORM)
SCALE = np.array([12 * octave + s for octave in (0, 1) for s in (0, 2, 4, 5, 7, 9, 11)])
SCALE = np.append(SCALE, 24)
KEYS = 12
NUM_LEVELS = KEYS + int(SCALE[-1])
WEIGHTS = {-2: 1, -1: 3, 0: 2, 1: 3, 2: 1}
SIZES = {'train': 4096, 'validation': 512, 'test': 512}


@functools.cache
def moves() -> np.ndarray:
  """Gives the [15, 15] probabilities of the next degree by the last."""
  table = np.zeros((len(SCALE), len(SCALE)))
  for last in range(len(SCALE)):
    for step, weight in WEIGHTS.items():
      if 0 <= last + step < len(SCALE):
        table[last, last + step] = weight
  return table / table.sum(axis=1, keepdims=True)


def draw(rng: np.random.Generator, num: int) -> np.ndarray:
  """Draws tunes [num, 32] int32."""
  phrases = np.empty((num, max(FORM) + 1, PHRASE), np.int64)
  phrases[..., 0] = rng.integers(len(SCALE), size=phrases.shape[:2])
  total = moves().cumsum(axis=1)
  for i in range(1, PHRASE):
    noise = rng.random((*phrases.shape[:2], 1))
    phrases[..., i] = (noise >= total[phrases[..., i - 1]]).sum(axis=-1)
  key = rng.integers(KEYS, size=(num, 1))
  return (key + SCALE[phrases[:, FORM].reshape(num, LENGTH)]).astype(np.int32)


def log_prob(x: np.ndarray) -> np.ndarray:
  """Evaluates log p of tunes [B, 32], [B] nats, exactly: keys summed out."""
  phrases = np.asarray(x).reshape(len(x), len(FORM), PHRASE)
  first = [FORM.index(which) for which in range(max(FORM) + 1)]
  returns = (phrases == phrases[:, np.take(first, FORM)]).all(axis=(1, 2))
  degree = np.full(2 * NUM_LEVELS, -1)  # -1: not in the scale
  degree[SCALE] = np.arange(len(SCALE))
  with np.errstate(divide='ignore'):
    log_moves = np.log(moves())

  def log_given_key(key):
    at = degree[phrases[:, first] - key]
    inside = (at >= 0).all(axis=(1, 2))
    steps = log_moves[at[..., :-1], at[..., 1:]].sum(axis=(1, 2))
    return np.where(inside, steps - len(first) * math.log(len(SCALE)), -np.inf)

  each = np.logaddexp.reduce([log_given_key(key) for key in range(KEYS)], axis=0)
  return np.where(returns, each - math.log(KEYS), -np.inf)


def melodies() -> dataset.Dataset:
  """Generates tunes, raw `x` [B, 32] int32 of 36 pitches; always the same ones.

  Splits: 'train' 4096, 'validation' 512, 'test' 512.

  Returns:
    A Dataset; its measure is a mass.
  """
  splits = {
    split: {'x': draw(np.random.default_rng([0, i]), num)}
    for i, (split, num) in enumerate(SIZES.items())
  }
  spec = base.DataSpec(
    (LENGTH,), jnp.dtype(jnp.int32), NUM_LEVELS, None, None, transforms.tokens()
  )
  return dataset.in_memory('melodies', spec, splits)
