"""Observation models: masses sum to one, draws follow them, means are theirs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import observations

LEVELS = 5
MASSES = {
  'bernoulli': (observations.bernoulli(), 2),
  'categorical': (observations.categorical(LEVELS), LEVELS),
  'logistics': (observations.logistics(1, LEVELS, 1), LEVELS),
  'mixture': (observations.logistics(1, LEVELS, 3), LEVELS),
}
NUM = 4000


def parameters_of(name, num=1):
  """Random ones of an example [1], the same for all."""
  found = MASSES[name][0].parameters((1,))
  one = 0.8 * jax.random.normal(jax.random.key(3), (1, *found))
  return jnp.broadcast_to(one, (num, *found))


@pytest.mark.parametrize('name', MASSES)
def test_masses_sum_to_one_and_are_what_is_drawn(name):
  observation, levels = MASSES[name]
  x = jnp.arange(levels)[:, None]
  p = np.exp(observation.log_prob(parameters_of(name, levels), x))
  np.testing.assert_allclose(p.sum(), 1, rtol=1e-5)
  drawn = np.asarray(observation.draw(jax.random.key(0), parameters_of(name, NUM)))
  assert drawn.shape == (NUM, 1) and drawn.dtype == np.int32
  frequency = np.bincount(drawn[:, 0], minlength=levels) / NUM
  assert np.abs(frequency - p).max() < 4 * np.sqrt(0.25 / NUM)
  nearest = np.asarray(observation.mean(parameters_of(name)))[0, 0]
  if name in ('bernoulli', 'categorical'):
    assert nearest == round(float(p @ np.arange(levels)))


def test_the_mean_of_pixels_has_what_the_channels_before_add():
  observation = observations.logistics(3, 256, 2)
  shape = observation.parameters((4, 4, 3))
  parameters = jax.random.normal(jax.random.key(0), (1, *shape)) * 0.3
  weights, mean, log_scale, coupling = np.split(
    np.asarray(parameters).reshape(1, 4, 4, 2, 10), [1, 4, 7], axis=-1
  )
  # Scales of nothing, so that a draw is its component's mean.
  sharp = np.concatenate([weights, mean, log_scale * 0 - 7.0, coupling], axis=-1)
  sharp = jnp.asarray(sharp.reshape(1, *shape))
  many = jnp.broadcast_to(sharp, (2000, *shape))
  draws = np.asarray(observation.draw(jax.random.key(1), many), float)
  error = draws.std(axis=0) / np.sqrt(2000)
  inside = (draws.min(axis=0) > 1) & (draws.max(axis=0) < 254)
  gap = np.abs(draws.mean(axis=0) - np.asarray(observation.mean(sharp))[0])
  assert inside.sum() > 30 and (gap[inside] < 5 * error[inside] + 1.0).all()


@pytest.mark.parametrize(
  'observation', [observations.gaussian(), observations.fixed_gaussian(0.7)]
)
def test_densities_integrate_to_one_and_have_the_moments_of_draws(observation):
  shape = observation.parameters((1,))
  parameters = jnp.full((1, *shape), -0.4)  # a mean of -0.4, and a log deviation
  x = jnp.linspace(-9.0, 9.0, 4001)[:, None]
  p = np.exp(observation.log_prob(jnp.broadcast_to(parameters, (4001, *shape)), x))
  at, width = np.asarray(x)[:, 0], 18 / 4000
  np.testing.assert_allclose(p.sum() * width, 1, rtol=1e-4)
  mean = (p * at).sum() * width
  std = np.sqrt((p * (at - mean) ** 2).sum() * width)
  np.testing.assert_allclose(mean, observation.mean(parameters)[0, 0], atol=1e-4)
  drawn = observation.draw(
    jax.random.key(0), jnp.broadcast_to(parameters, (NUM, *shape))
  )
  assert abs(drawn.mean() - mean) < 4 * std / np.sqrt(NUM)
  assert abs(drawn.std() - std) < 4 * std / np.sqrt(2 * NUM)
