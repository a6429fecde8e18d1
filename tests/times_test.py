"""Times: their distributions by moments, low discrepancy, grids with known ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import processes, times

KEY = jax.random.key(0)
VP, EDM, LINE = processes.cosine(), processes.edm(), processes.rectified()


def test_uniform_times_are_between_first_and_last():
  for draw in (times.uniform(VP), times.stratified(VP)):
    u = (draw(KEY, 10_000) - VP.first) / (VP.last - VP.first)
    assert u.min() >= 0 and u.max() <= 1
    assert abs(u.mean() - 0.5) < 4 * np.sqrt(1 / 12 / 10_000)
    assert abs(u.var() - 1 / 12) < 0.002


@pytest.mark.parametrize('num', [1, 7, 49, 98, 103, 107, 249])
def test_stratified_times_are_one_in_each_part(num):
  """For any number, those at which a range by 1 / num has one more among them."""
  t = times.stratified(LINE)(KEY, num)
  assert t.shape == (num,)
  # Behind the shift that all share.
  parts = jnp.sort((t * num + 1e-4) // 1)
  np.testing.assert_array_equal(parts, jnp.arange(num))


def test_each_stratified_time_is_uniform():
  keys = jax.random.split(KEY, 4000)
  third = jax.vmap(lambda key: times.stratified(LINE)(key, 5)[3])(keys)
  counts, _ = np.histogram(third, bins=10, range=(0, 1))
  assert (np.abs(counts - 400) < 4 * np.sqrt(400 * 0.9)).all()


def test_a_mean_over_stratified_times_varies_less():
  keys = jax.random.split(KEY, 500)

  def spread(draw):
    return jax.vmap(lambda key: jnp.square(draw(key, 16)).mean())(keys).std()

  assert spread(times.stratified(LINE)) < 0.3 * spread(times.uniform(LINE))


def test_logit_and_log_normal_times_have_their_moments():
  t = times.logit_normal(LINE, 0.5, 0.8)(KEY, 50_000)
  logit = jnp.log(t / (1 - t))
  assert abs(logit.mean() - 0.5) < 0.02 and abs(logit.std() - 0.8) < 0.02
  for process in (EDM, VP):
    t = times.log_normal(process, -1.2, 1.2)(KEY, 50_000)
    logarithm = -0.5 * process.log_snr(t)
    assert abs(logarithm.mean() + 1.2) < 0.03 and abs(logarithm.std() - 1.2) < 0.02


def test_grids_have_their_ends_and_fall():
  for grid, ends in (
    (times.even(LINE), (1.0, 0.1)),
    (times.even_log_snr(VP), (VP.last, VP.first)),
    (times.karras(EDM), (80.0, 0.002)),
  ):
    t = grid(jnp.arange(10), 10)
    np.testing.assert_allclose(t[jnp.array([0, -1])], ends, rtol=1e-3)
    assert (jnp.diff(t) < 0).all()
    np.testing.assert_allclose(grid(jnp.array(0), 1), ends[0], rtol=1e-3)


def test_the_grid_of_karras_is_its_formula():
  """(80^(1/7) + i / 17 (0.002^(1/7) - 80^(1/7)))^7, of 18 steps."""
  found = times.karras(EDM)(jnp.arange(18), 18)
  part = np.arange(18) / 17
  expected = (80 ** (1 / 7) + part * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
  np.testing.assert_allclose(found, expected, rtol=2e-4)


def test_grids_of_ratios_need_finite_ones():
  for make in (times.karras, times.even_log_snr):
    with pytest.raises(ValueError, match='0 or infinite'):
      make(LINE)
  with pytest.raises(ValueError, match='rho must be > 0'):
    times.karras(EDM, 0.0)
