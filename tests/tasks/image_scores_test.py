"""Scores of a model's samples: chunks, conditions, protocols, grids, mistakes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import base
from gm_jax.data import registry
from gm_jax.metrics import extractors
from gm_jax.tasks import image_scores, results

KEY = jax.random.key(3)
CARD = base.Card(
  density='none', density_cost='none', measure='none', sampling='exact',
  sampling_cost='one_pass', training=('adversarial',), latents='continuous',
  architecture='any',
)  # fmt: skip


@functools.cache
def digits(name='digits'):
  data = registry.load(name)
  return {s: data.arrays(s, 2000) for s in ('train', 'test')}, data.spec


def rows_of(x):
  """A method whose samples are rows of x in model space."""

  def sample(model, key, num, *, condition=None):
    return x[jax.random.randint(key, (num,), 0, len(x))]

  return base.Method(CARD, None, None, sample=sample)


def by_label(x, labels):
  """A method whose samples are of the class that they must be conditioned on."""
  first = jnp.stack([x[np.argmax(labels == c)] for c in range(10)])

  def sample(model, key, num, *, condition=None):
    if condition is None:
      raise ValueError('a condition is missing')
    return first[condition]

  card = CARD._replace(condition=('label',))
  return base.Method(card, None, None, sample=sample)


def scored(method, **options):
  arrays, spec = digits()
  options = {'features': 'pixels', **options}
  return image_scores.image_scores(method, (), KEY, arrays, spec, **options)


@functools.cache
def train():
  arrays, spec = digits()
  return spec.transform.forward(KEY, jnp.asarray(arrays['train']['x']))


def test_numbers_and_protocol():
  found = scored(rows_of(train()), num=360)
  value, kind = found.values['frechet']
  assert kind == (
    'estimate, biased upwards; features: pixels in [0, 1]; resize: none from 8x8; real:'
    ' 360 (test); fake: 360; rounded to 8 bits'
  )
  arrays, spec = digits()
  key = jax.random.split(KEY)[0]
  raw = image_scores.draw(rows_of(train()), (), key, 360, arrays, spec)
  both = arrays['test']['x'], raw
  sets = [np.rint(x * (255 / 16)).reshape(len(x), -1) / 255 for x in both]
  mean, cov = [x.mean(0) for x in sets], [np.cov(x.T) for x in sets]
  roots = np.linalg.eigvals(cov[0] @ cov[1]).real.clip(0) ** 0.5
  expected = np.square(mean[0] - mean[1]).sum() + np.trace(sum(cov)) - 2 * roots.sum()
  np.testing.assert_allclose(value, expected, rtol=1e-3)
  exact = scored(rows_of(train()), num=360, rounded=False).values['frechet']
  assert exact[1].endswith('not rounded') and exact[0] != value
  np.testing.assert_allclose(exact[0], value, rtol=1e-2)


def test_samples_are_drawn_in_chunks_as_the_data_are(monkeypatch):
  arrays, spec = digits()
  monkeypatch.setattr(image_scores, 'BATCH', 64)
  method = by_label(train(), arrays['train']['label'])
  raw = image_scores.draw(method, (), KEY, 150, arrays, spec)
  assert raw.shape == (150, 8, 8, 1) and raw.max() == 16
  first = np.stack(
    [arrays['train']['x'][np.argmax(arrays['train']['label'] == c)] for c in range(10)]
  )
  np.testing.assert_array_equal(raw, first[arrays['test']['label'][:150]])


def test_a_grid_of_neighbors_has_copies_beside_copies():
  found = scored(rows_of(train()), metrics=('neighbors',))
  grid = found.arrays[results.GRID]
  assert grid.shape == (8, 8, 8, 8, 1)
  np.testing.assert_array_equal(grid[:, 0], grid[:, 1])
  assert found.values['neighbor_distance'][0] == 0
  assert found.values['neighbor_distance_real'][0] > 0


def test_floats_are_images_where_they_lie_in_the_interval():
  arrays, spec = digits()
  x = np.asarray(train())[:20]

  def identity(key, x):
    return x

  way = spec.transform._replace(forward=identity, inverse=lambda x: x)
  floats = spec._replace(num_levels=None, num_classes=None, transform=way)
  method = rows_of(train() * 1.1)  # some beyond the interval, and cut off

  def call(x):
    return image_scores.image_scores(
      method, (), KEY, {'test': {'x': x}}, floats, num=20, metrics=('frechet',)
    )

  assert 'pixels' in call(x).values['frechet'][1]
  with pytest.raises(ValueError, match="the split 'test' has values from -3 to 3"):
    call(3 * x)
  with pytest.raises(ValueError, match=r'seem to be in \[0, 1\]'):
    call(x / 2 + 0.5)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'metrics': ('fid',)}, "no metric 'fid'"),
    ({'features': 'inception:/nowhere'}, '/nowhere: no such file of weights'),
    ({'lpips': '/nowhere'}, '/nowhere: no such file of weights of LPIPS'),
    ({'split': 'validation'}, 'needs the validation split'),
    ({'num': -1}, 'num must be 0 or more, got -1'),
    ({'num': 5, 'metrics': ('prdc',)}, 'k must be from 1 to 4'),
  ],
)
def test_what_cannot_be_is_one_line(options, message):
  with pytest.raises(ValueError, match=message):
    scored(rows_of(train()), **options)


def test_points_have_no_image_metrics():
  arrays, spec = digits('toy:ring')
  with pytest.raises(ValueError, match=r'need images \[H, W, C\], an example is \[2\]'):
    image_scores.image_scores(rows_of(train()), (), KEY, arrays, spec)


@pytest.mark.slow
def test_features_of_a_classifier_and_its_inception_score(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.setenv('GM_JAX_CACHE', str(tmp_path))
  metrics = ('frechet', 'inception_score')
  good = scored(rows_of(train()), features='', metrics=metrics).values
  assert 'small classifier of 10 classes of 8x8' in good['frechet'][1]
  again = scored(rows_of(train()), features='', metrics=metrics).values
  for name, (value, kind) in good.items():  # now from files
    assert (value, kind) == again[name]
  arrays, _ = digits()
  bad = rows_of(train()[arrays['train']['label'] == 3])
  bad = scored(bad, features='', metrics=metrics).values
  assert good['inception_score'][0] > 6 > 2 > bad['inception_score'][0]
  assert bad['frechet'][0] > 5 * good['frechet'][0]
  assert len(list(tmp_path.glob('statistics-*.npz'))) == 1
  assert extractors.MOMENTS > 128
