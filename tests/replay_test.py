"""A replay buffer: no chain twice in a batch, and a share that begins afresh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gm_jax import replay

SIZE, BATCH, TRIALS, RATE = 12, 5, 4000, 0.3
KEY = jax.random.key(0)


def numbered(size=SIZE):
  """A buffer whose chains are their places, twice."""

  def draw(key, num):
    del key
    return jnp.tile(jnp.arange(num, dtype=jnp.float32)[:, None], (1, 2))

  return replay.filled(draw, KEY, size)


def test_a_batch_holds_no_chain_twice_and_every_chain_as_often():
  drawn = jax.jit(jax.vmap(lambda key: replay.places(numbered(), key, BATCH)))
  index = np.sort(drawn(jax.random.split(KEY, TRIALS)), axis=1)
  # With replacement 62% of the batches would hold one twice: 1 - 12! / (7! 12^5).
  assert (np.diff(index, axis=1) > 0).all()
  assert index.min() == 0 and index.max() == SIZE - 1
  # Every pair is equally likely too, which a run of neighbors would not be.
  pairs = np.zeros((SIZE, SIZE), int)
  for i, j in zip(*np.triu_indices(BATCH, 1), strict=True):
    np.add.at(pairs, (index[:, i], index[:, j]), 1)
  counts = pairs[np.triu_indices(SIZE, 1)]
  p = BATCH * (BATCH - 1) / (SIZE * (SIZE - 1))
  tails = [stats.binom.cdf(counts, TRIALS, p), stats.binom.sf(counts - 1, TRIALS, p)]
  assert np.min(tails) > 1e-6


def test_what_is_put_back_loses_no_chain_and_touches_no_other():
  @jax.jit
  def moved(key):
    held = numbered()
    index, x = replay.starts(held, key, jnp.zeros((BATCH, 2)), rate=0.0)
    return index, x, replay.put(held, index, x + 100).chains

  for key in jax.random.split(KEY, 10):
    index, x, after = map(np.asarray, moved(key))
    np.testing.assert_array_equal(x[:, 0], index)
    expected = np.arange(SIZE, dtype=np.float32)
    expected[index] += 100
    np.testing.assert_array_equal(after, np.tile(expected[:, None], (1, 2)))
    assert (after >= 100).all(axis=1).sum() == BATCH  # of two copies one would be lost


def test_a_share_begins_afresh_within_the_binomials_error():
  def fresh_of(key, rate):
    index, x = replay.starts(numbered(), key, -jnp.ones((BATCH, 2)), rate=rate)
    anew = x[:, 0] < 0
    return anew, jnp.where(anew, -1, index)[:, None] == x

  drawn = jax.jit(jax.vmap(fresh_of, (0, None)))
  keys = jax.random.split(jax.random.key(1), TRIALS)
  anew, whole = drawn(keys, RATE)
  assert whole.all()  # examples begin afresh in all their numbers or in none
  count, num = int(anew.sum()), BATCH * TRIALS
  assert 1e-6 < stats.binom.cdf(count, num, RATE) < 1 - 1e-6
  several = np.bincount(np.asarray(anew).sum(axis=1), minlength=BATCH + 1)
  expected = stats.binom.pmf(np.arange(BATCH + 1), BATCH, RATE)  # of independent ones
  np.testing.assert_allclose(
    several / TRIALS, expected, atol=4 * np.sqrt(expected.max() / TRIALS)
  )
  assert not drawn(keys, 0.0)[0].any() and drawn(keys, 1.0)[0].all()


def test_a_buffer_that_cannot_give_a_batch_is_one_line():
  with pytest.raises(ValueError, match='must hold at least 1 chain, got 0'):
    numbered(0)
  empty = replay.Buffer(jnp.zeros((0, 2)))
  with pytest.raises(ValueError, match='the replay buffer is empty'):
    replay.places(empty, KEY, 1)
  with pytest.raises(ValueError, match='a chain for each of a batch of 13, got 12'):
    replay.places(numbered(), KEY, SIZE + 1)
  every = replay.places(numbered(), KEY, SIZE)
  np.testing.assert_array_equal(np.sort(every), np.arange(SIZE))
