"""The table of guidance: its numbers are of the samples that were asked for."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from experiments.configs.parts import evaluations  # noqa: E402
from experiments.ledger import guidance  # noqa: E402
from gm_jax import base, diffusion  # noqa: E402
from gm_jax.data import registry  # noqa: E402
from gm_jax.metrics import features  # noqa: E402

DATA = registry.load('digits')


@pytest.mark.slow
def test_a_model_that_draws_the_test_images_has_full_marks_and_noise_none():
  """Of the test images themselves precision and recall are 1, the distance 0."""
  test = evaluations.splits_of(DATA, {'test': None})['test']
  x = jnp.asarray(test['x'], jnp.float32) / 8 - 1
  label = jnp.asarray(test['label'])
  weights = jax.random.normal(jax.random.key(0), (64, 10))

  def nearest(params, images):  # right on every test image
    flat = images.reshape(len(images), -1)
    at = jnp.square(flat[:, None] - x.reshape(len(x), -1)).sum(axis=2).argmin(axis=1)
    return jax.nn.one_hot(label[at], 10)

  reader = features.Classifier(
    (), nearest, lambda p, images: images.reshape(len(images), -1) @ weights, 1.0
  )
  distances = evaluations.image_distances(DATA)
  found = {}
  for name in ('copies', 'noise'):

    def sample(model, key, num, *, condition=None, name=name):
      noise = jax.random.uniform(key, (num, *x.shape[1:]), minval=-1.0)
      return x[:num] if name == 'copies' else noise

    card = diffusion.CARD._replace(condition=('label',))
    method = base.Method(card, None, None, sample)
    numbers, shown = guidance.measured(
      method, base.Model({}, {}), DATA, reader, distances
    )
    assert shown.shape == (guidance.SHOWN, 8, 8, 1)
    found[name] = numbers
  copies, noise = found['copies'], found['noise']
  for number in ('agreement', 'diversity', 'precision', 'recall'):
    np.testing.assert_allclose(copies[number], 1.0, atol=1e-5)
  assert abs(copies['frechet']) < 1e-2 and copies['N'] == len(x)
  assert noise['agreement'] < 0.2 and noise['precision'] < 0.1
  assert noise['frechet'] > 100


def test_a_line_has_a_cell_for_every_column():
  numbers = dict.fromkeys(('agreement', 'diversity', 'precision', 'recall'), 0.5)
  row = 'EDM', 'a classifier', '2', numbers | {'frechet': 3.14, 'N': 9}, 7, 1.2
  assert len(guidance.cells(row)) == len(guidance.HEADER)
  assert guidance.cells(row)[-4:] == ['3.1', '9', '7', '1']
