"""Pools: fresh until full, then swapped half of the time, for what they hold."""

import jax
import jax.numpy as jnp
import numpy as np

from gm_jax import pools


def rounds(size, batch, num):
  """What a pool is given, numbers in order, and what it gives; [num, batch]."""
  inputs = jnp.arange(1.0, num * batch + 1).reshape(num, batch, 1)

  def one(pool, pair):
    shown, pool = pools.exchange(pool, *pair)
    return pool, (shown, pool)

  keys = jax.random.split(jax.random.key(0), num)
  pool = pools.empty(size, jnp.zeros(1))
  _, (shown, after) = jax.jit(lambda p: jax.lax.scan(one, p, (keys, inputs)))(pool)
  return np.asarray(inputs)[..., 0], np.asarray(shown)[..., 0], after


def test_a_pool_gives_back_what_it_is_given_until_it_is_full():
  inputs, shown, after = rounds(size=10, batch=4, num=4)
  np.testing.assert_array_equal(shown[:2], inputs[:2])
  np.testing.assert_array_equal(shown[2, :2], inputs[2, :2])
  np.testing.assert_array_equal(after.count, [4, 8, 10, 10])
  np.testing.assert_array_equal(after.kept[1, :8, 0], np.arange(1, 9))


def test_a_full_pool_swaps_half_of_the_time_and_loses_nothing():
  inputs, shown, after = rounds(size=50, batch=8, num=500)
  late = slice(10, None)
  fresh = (shown == inputs)[late]
  error = 0.5 / np.sqrt(fresh.size)
  assert abs(fresh.mean() - 0.5) < 4 * error
  # The first fifty are shown and kept, each other one is shown once or still kept. A
  # pool that keeps what it shows would show some again and again.
  held = np.asarray(after.kept)[-1, :, 0]
  found, expected = np.append(shown, held), np.append(inputs, np.arange(1, 51))
  np.testing.assert_array_equal(np.sort(found), np.sort(expected))


def test_what_is_swapped_out_is_of_any_age():
  inputs, shown, _ = rounds(size=20, batch=4, num=2000)
  age = (inputs - shown)[inputs != shown]
  # A place is swapped with probability 1/40 a time: ages are geometric, 40 on average.
  assert abs(age.mean() - 40) < 4 * 40 / np.sqrt(age.size) and age.min() >= 1
