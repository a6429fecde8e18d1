"""The inception score against its closed forms and against torch-fidelity's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from gm_jax.metrics import inception_score

rng = np.random.default_rng(0)
score = jax.jit(inception_score.inception_score, static_argnames='num_splits')


def direct(logits, num_splits):
  """exp of the mean KL in float64, split by split."""
  log_p = special.log_softmax(np.asarray(logits, float), axis=1)
  edges = [s * len(log_p) // num_splits for s in range(num_splits + 1)]
  scores = []
  for start, end in zip(edges[:-1], edges[1:], strict=True):
    part = np.exp(log_p[start:end])
    scores.append(np.exp(special.rel_entr(part, part.mean(0)).sum(1).mean()))
  return np.mean(scores), np.std(scores)


@pytest.mark.parametrize('size', [0.0, 1e4, 1e30])
def test_predictions_all_alike_score_one(size):
  logits = np.tile(np.float32(size * rng.standard_normal(7)), (60, 1))
  np.testing.assert_allclose(score(logits), (1.0, 0.0), atol=2e-6)


@pytest.mark.parametrize('size', [100.0, 1e30])
def test_certain_and_balanced_classes_score_their_number(size):
  logits = size * np.tile(np.eye(6, dtype=np.float32), (10, 1))
  np.testing.assert_allclose(score(logits), (6.0, 0.0), rtol=1e-6, atol=1e-6)
  # Sorted by class, each split sees one class: rows are taken in their order.
  np.testing.assert_allclose(score(np.sort(logits, axis=0)[::-1])[0] < 6.0, True)


def test_half_certain_of_two_classes_and_half_undecided():
  # H(p(y)) = ln 2, and half of the rows have entropy ln 2: exp(ln 2 / 2).
  logits = np.float32([[50, -50], [-50, 50], [0, 0], [0, 0]] * 5)
  np.testing.assert_allclose(score(logits, num_splits=5), (2**0.5, 0.0), atol=1e-6)
  # A certain class among K of which the others are never seen, at a rate r: exp(H(r)).
  logits = np.float32([[90, 0, 0, 0]] * 3 + [[0, 90, 0, 0]])
  entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
  np.testing.assert_allclose(score(logits, num_splits=1)[0], np.exp(entropy), rtol=1e-6)


@pytest.mark.parametrize(('num', 'num_splits'), [(60, 10), (67, 10), (9, 9), (13, 1)])
def test_by_the_definition_where_splits_are_uneven_too(num, num_splits):
  logits = np.float32(3 * rng.standard_normal((num, 7)) + 5e3)
  found = score(logits, num_splits=num_splits)
  np.testing.assert_allclose(found, direct(logits, num_splits), rtol=1e-5, atol=1e-5)


def test_what_a_class_adds_to_all_logits_of_a_row_cancels():
  logits = np.float32(3 * rng.standard_normal((60, 7)))
  shifted = logits + 64.0 * np.arange(60, dtype=np.float32)[:, None]
  np.testing.assert_allclose(score(shifted), score(logits), rtol=1e-3)


def test_what_is_not_finite_is_refused_or_is_nan():
  logits = rng.standard_normal((60, 7)).astype(np.float32)
  for wrong in (np.nan, np.inf):
    spoiled = logits.copy()
    spoiled[3, 2] = wrong
    with pytest.raises(ValueError, match='logits must be finite'):
      inception_score.inception_score(spoiled)
    assert np.isnan(score(spoiled)).all()
  # A class that is ruled out is no mistake.
  logits[:, 2] = -np.inf
  np.testing.assert_allclose(score(logits), score(np.delete(logits, 2, 1)), rtol=1e-6)


@pytest.mark.parametrize(
  ('words', 'logits', 'num_splits'),
  [
    ('logits must be .N, K.', np.ones(5), 1),
    ('no numbers', np.ones((0, 5)), 1),
    ('num_splits must be from 1 to N = 5', np.ones((5, 2)), 6),
    ('num_splits must be from 1 to N = 5', np.ones((5, 2)), 0),
  ],
)
def test_bad_arguments_raise(words, logits, num_splits):
  with pytest.raises(ValueError, match=words):
    inception_score.inception_score(logits, num_splits=num_splits)


def test_torch_fidelity_gives_the_same():
  reason = "not installed: 'gm_jax[bench]'"
  torch = pytest.importorskip('torch', reason=reason)
  peer = pytest.importorskip('torch_fidelity.metric_isc', reason=reason)
  logits = np.float32(3 * rng.standard_normal((67, 7)))
  expected = peer.isc_features_to_metric(torch.tensor(logits), shuffle=False)
  found = score(jnp.asarray(logits))
  np.testing.assert_allclose(found, list(expected.values()), rtol=1e-4)
