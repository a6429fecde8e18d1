"""Chains of an energy: their temperature, bounds and clip against closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import chains as chains_lib
from gm_jax import priors
from gm_jax.samplers import langevin

NUM, SIZE, TEMPERATURE, COLD = 8000, 0.5, 0.25, 1e-12
CHAINS = chains_lib.Chains(priors.normal(1), num_steps=60, step_size=SIZE)
KEY = jax.random.key(0)


def quadratic(x):
  return 0.5 * jnp.square(x).sum(axis=1)


def reached(chains, energy, start):
  return np.asarray(jax.jit(functools.partial(chains_lib.run, chains, energy))(
    KEY, start)[0], float)  # fmt: skip


def assert_moments(x, mean, variance, fourth):
  """The first two moments within 4 standard errors; `fourth` is the central one."""
  assert abs(x.mean() - mean) < 4 * np.sqrt(variance / x.size)
  error = np.sqrt((fourth - variance**2) / x.size)
  assert abs(np.square(x - mean).mean() - variance) < 4 * error


@pytest.mark.parametrize(
  ('transition', 'variance'),
  [
    # Of Euler's step the variance is T / (1 - s / 2), of Metropolis' decision T.
    (langevin.langevin, TEMPERATURE / (1 - SIZE / 2)),
    (langevin.mala, TEMPERATURE),
  ],
)
def test_chains_have_the_variance_of_their_temperature(transition, variance):
  chains = CHAINS._replace(temperature=TEMPERATURE, transition=transition)
  x = reached(chains, quadratic, jnp.full((NUM, 1), 2.0))
  assert_moments(x, 0.0, variance, 3 * variance**2)


def test_a_noise_scale_is_the_temperature_that_it_implies():
  # x' = x - s x + n xi has the variance n^2 / (1 - (1 - s)^2).
  scale = 0.3
  cold = langevin.implied_temperature(step_size=SIZE, noise_scale=scale)
  x = reached(CHAINS._replace(temperature=cold), quadratic, jnp.zeros((NUM, 1)))
  variance = scale**2 / (1 - (1 - SIZE) ** 2)
  assert_moments(x, 0.0, variance, 3 * variance**2)


def test_chains_within_bounds_have_the_density_cut_there():
  # exp(-theta x) on [0, 1]: by the moments of an exponential cut at 1.
  theta = 3.0
  chains = CHAINS._replace(bounds=(0.0, 1.0), transition=langevin.mala, step_size=0.05)
  x = reached(chains, lambda x: theta * x[:, 0], jnp.full((NUM, 1), 0.5))
  grid = (np.arange(100_000) + 0.5) / 100_000
  p = np.exp(-theta * grid)
  moment = lambda power, mean=0.0: (p * (grid - mean) ** power).sum() / p.sum()  # noqa: E731
  mean = moment(1)
  np.testing.assert_allclose(mean, 1 / theta - 1 / np.expm1(theta), rtol=1e-6)
  assert_moments(x, mean, moment(2, mean), moment(4, mean))
  assert x.min() >= 0 and x.max() <= 1


def test_a_step_is_the_clipped_gradient_and_ends_on_the_bounds():
  chains = CHAINS._replace(num_steps=1, temperature=COLD, largest=0.4)
  start = jnp.array([[-3.0], [0.2], [1.0]])
  cut = np.clip(start, -0.4, 0.4)
  x = reached(chains, quadratic, start)
  np.testing.assert_allclose(x, start - SIZE * cut, atol=1e-5)
  x = reached(chains._replace(bounds=(-2.5, 0.15)), quadratic, jnp.minimum(start, 0.15))
  np.testing.assert_allclose(x, [[-2.5], [0.075], [0.075]], atol=1e-5)
  # By Metropolis the clip decides where a step is tried, and not where chains end.
  exact = CHAINS._replace(largest=0.4, transition=langevin.mala)
  x = reached(exact, quadratic, jnp.full((NUM, 1), 2.0))
  assert_moments(x, 0.0, 1.0, 3.0)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'num_steps': 0}, 'num_steps of chains must be >= 1, got 0'),
    ({'size': 0}, 'size of chains must be >= 1, got 0'),
    ({'sampling_steps': 0}, 'sampling_steps of chains must be >= 1'),
    ({'step_size': 0.0}, 'step_size of chains must be > 0, got 0'),
    ({'temperature': -1.0}, 'temperature of chains must be > 0'),
    ({'largest': 0.0}, 'largest of chains must be > 0'),
    ({'rate': 1.5}, r'rate of chains must be in \[0, 1\], got 1.5'),
    ({'bounds': (1.0, 1.0)}, r'bounds of chains must be \(low, high\)'),
  ],
)
def test_chains_that_make_no_sense_are_one_line(changes, message):
  with pytest.raises(ValueError, match=message):
    chains_lib.checked(CHAINS._replace(**changes))
  with pytest.raises(ValueError, match=message):
    chains_lib.run(CHAINS._replace(**changes), quadratic, KEY, jnp.zeros((2, 1)))


def test_an_energy_must_be_a_number_a_chain():
  with pytest.raises(ValueError, match=r'log_prob must return \[N\]'):
    chains_lib.run(CHAINS, lambda x: x, KEY, jnp.zeros((2, 1)))
