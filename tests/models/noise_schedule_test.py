"""Learned noise schedules: rising for all parameters, their ends where they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.models import noise_schedule

KEY = jax.random.key(0)
T = jnp.linspace(0.0, 1.0, 65)
BENT = noise_schedule.NoiseSchedule(noise_schedule.Monotone(8), -6.0, 3.0)


def moved(params, seed, scale):
  """Parameters that are off by noise."""
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.fold_in(KEY, seed), len(leaves))
  drawn = [v + scale * jax.random.normal(k, v.shape) for k, v in zip(keys, leaves)]  # noqa: B905
  return jax.tree.unflatten(tree, drawn)


def test_it_rises_between_its_ends_for_all_parameters():
  params = BENT.init(KEY, T)['params']
  apply = jax.jit(lambda params: BENT.apply({'params': params}, T))
  np.testing.assert_allclose(apply(params)[jnp.array([0, -1])], [-6, 3], rtol=1e-5)
  curves = []
  for seed, scale in enumerate((0.3, 1.0, 3.0, 10.0)):
    drawn = params | {'interior': moved(params['interior'], seed, scale)}
    curves.append(apply(drawn))
    np.testing.assert_allclose(curves[-1][jnp.array([0, -1])], [-6, 3], rtol=1e-5)
    ends = moved(drawn, seed, scale)
    assert (jnp.diff(apply(ends)) > 0).all() and (jnp.diff(curves[-1]) > 0).all()
  assert np.abs(curves[0] - (-6 + 9 * T)).max() > 0.1  # it is no line


def test_at_first_it_is_nearly_a_line_and_without_interior_it_is_one():
  """Steps evenly placed; those at the ends are seen by half."""
  line = noise_schedule.NoiseSchedule(None, -6.0, 3.0)
  params = line.init(KEY, T)
  assert set(params['params']) == {'low', 'gap'}
  np.testing.assert_allclose(line.apply(params, T), -6 + 9 * T, rtol=1e-5, atol=1e-5)
  bent = BENT.apply(BENT.init(KEY, T), T)
  np.testing.assert_allclose(bent, -6 + 9 * T, atol=0.5)


def test_the_inverse_is_one():
  params = BENT.init(KEY, T)
  schedule = lambda t: BENT.apply(params, t)  # noqa: E731
  found = jax.jit(lambda t: noise_schedule.inverse(schedule, schedule(t)))(T)
  np.testing.assert_allclose(found, T, atol=1e-5)
  ends = noise_schedule.inverse(schedule, jnp.array([-99.0, 99.0]))
  np.testing.assert_allclose(ends, [0, 1], atol=1e-6)


def test_ends_in_the_wrong_order_are_refused():
  with pytest.raises(ValueError, match='low must be below high, got 2.0 and 1.0'):
    noise_schedule.NoiseSchedule(None, 2.0, 1.0).init(KEY, T)
