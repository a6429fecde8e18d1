"""Zeros and ones have the pixels' probabilities, anew or once."""

import itertools

import jax
import numpy as np
import pytest

from gm_jax.data import registry


def first(data, num, **options):
  return list(itertools.islice(data.batches('train', 64, seed=0, **options), num))


@pytest.mark.parametrize('kind', ['dynamic', 'static'])
def test_pixels_are_ones_as_often_as_they_are_bright(kind):
  data, gray = registry.load(f'{kind}:digits'), registry.load('digits')
  for split in ('train', 'validation', 'test'):
    x, p = data.arrays(split)['x'], gray.arrays(split)['x'] / 16.0
    assert set(np.unique(x)) == {0, 1} and x.shape == p.shape
    assert (x[p == 0] == 0).all() and (x[p == 1] == 1).all()
    z = (x - p).sum(0) / np.sqrt(np.maximum((p * (1 - p)).sum(0), 1e-9))
    assert np.abs(z[(p * (1 - p)).sum(0) > 5]).max() < 4.5
    np.testing.assert_array_equal(
      data.arrays(split)['label'], gray.arrays(split)['label']
    )
  spec = data.spec
  assert spec.num_levels == 2 and spec.dtype == np.int32 and spec.num_train == 1257
  assert spec.transform.measure == 'mass' and data.name == f'{kind}:digits'


def test_dynamic_ones_are_drawn_anew_and_known_by_seed_and_place():
  data = registry.load('dynamic:digits')
  batches, again = first(data, 41), first(data, 41)
  jax.tree.map(np.testing.assert_array_equal, batches, again)
  jax.tree.map(np.testing.assert_array_equal, batches[7:9], first(data, 2, start=7))
  # Epochs of 20 batches less a bit: the same image, other noise.
  gray = first(registry.load('digits'), 41)
  images = np.concatenate([b['x'] for b in gray]).reshape(-1, 64)
  ones = np.concatenate([b['x'] for b in batches]).reshape(-1, 64)
  _, inverse = np.unique(images, axis=0, return_inverse=True)
  pair = np.flatnonzero(inverse == inverse[0])
  assert len(pair) >= 2 and (ones[pair[0]] != ones[pair[1]]).any()


def test_static_ones_are_the_same_in_every_epoch():
  data = registry.load('static:digits')
  known = {x.tobytes() for x in data.arrays('train')['x']}
  for batch in first(data, 41):
    assert {x.tobytes() for x in batch['x']} <= known


def test_parts_of_a_batch_have_noise_of_their_own():
  data = registry.load('dynamic:digits')
  parts = [next(data.batches('train', 8, seed=0, shard=(i, 2))) for i in range(2)]
  whole = next(data.batches('train', 8, seed=0))
  labels = np.concatenate([part['label'] for part in parts])
  np.testing.assert_array_equal(labels, whole['label'])


@pytest.mark.parametrize(
  ('name', 'word'),
  [
    ('dynamic:toy:ring', 'only images of levels'),
    ('static:manual', 'only images of levels'),
    ('dynamic:digits?transform=logit', 'of 0 and 1'),
    ('static:stacked:digits', 'endless'),
    ('dynamic:', 'names no data'),
  ],
)
def test_what_cannot_be_binary_is_refused(name, word):
  with pytest.raises(ValueError, match=word):
    registry.load(name)
