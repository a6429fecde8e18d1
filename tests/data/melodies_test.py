"""The distribution of the tunes sums to one, and the tunes are drawn from it."""

import itertools

import numpy as np
from scipy import stats

from gm_jax.data import melodies, registry


def test_moves_are_a_walk_on_two_octaves():
  table = melodies.moves()
  np.testing.assert_allclose(table.sum(1), 1)
  np.testing.assert_allclose(table[7, 5:10], [0.1, 0.3, 0.2, 0.3, 0.1])
  np.testing.assert_allclose(table[0, :3], np.array([2, 3, 1]) / 6)


def test_the_distribution_sums_to_one_over_shorter_tunes(monkeypatch):
  monkeypatch.setattr(melodies, 'PHRASE', 2)
  monkeypatch.setattr(melodies, 'LENGTH', 8)
  pairs = np.array(list(itertools.product(range(melodies.NUM_LEVELS), repeat=2)))
  scale = melodies.SCALE
  allowed = [  # phrases that some key allows, with the others 0 anyway
    p for p in pairs
    if any({p[0] - k, p[1] - k} <= set(scale) for k in range(melodies.KEYS))
    and abs(int(p[0]) - int(p[1])) <= 4
  ]  # fmt: skip
  a, b = (
    np.array(part) for part in zip(*itertools.product(allowed, allowed), strict=True)
  )
  tunes = np.concatenate([a, a, b, a], axis=1)
  np.testing.assert_allclose(np.exp(melodies.log_prob(tunes)).sum(), 1, rtol=1e-9)


def test_tunes_have_its_entropy_and_none_else_has_mass():
  data = registry.load('melodies')
  x = data.arrays('train')['x']
  assert x.shape == (4096, 32) and x.min() >= 0 and x.max() < data.spec.num_levels
  np.testing.assert_array_equal(x[:, :8], x[:, 24:])
  log_p = melodies.log_prob(x)
  assert np.isfinite(log_p).all()
  # Key, two first notes and fourteen moves are told by a tune but for rare keys.
  moves = melodies.moves()
  each = -(moves * np.log(np.where(moves > 0, moves, 1))).sum(1)
  degree, entropy = np.full(15, 1 / 15), np.log(12) + 2 * np.log(15)
  for _ in range(7):
    entropy += 2 * degree @ each
    degree = degree @ moves
  error = log_p.std() / 64
  assert entropy - 0.6 < -log_p.mean() < entropy + 4 * error
  wrong = x[:5].copy()
  wrong[:, 9] += 1  # the second phrase is no repetition then
  assert np.isneginf(melodies.log_prob(wrong)).all()


def test_first_notes_are_even_and_splits_are_apart():
  data = registry.load('melodies')
  train, test = data.arrays('train')['x'], data.arrays('test')['x']
  assert not {x.tobytes() for x in train} & {x.tobytes() for x in test}
  count = np.bincount(train[:, 0], minlength=36)
  expected = np.zeros(36)
  for key in range(12):
    expected[key + melodies.SCALE] += 1 / 180
  keep = expected > 0
  assert stats.chisquare(count[keep], 4096 * expected[keep]).pvalue > 1e-3
