"""Priors: those that say a density are drawn from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gm_jax import priors


@pytest.mark.parametrize(
  ('make', 'expected'),
  [(priors.normal, stats.norm()), (priors.uniform, stats.uniform(-1.0, 2.0))],
)
def test_density_is_that_of_the_draws(make, expected):
  prior = make(3)
  z = prior(jax.random.key(0), 2000)
  assert z.shape == (2000, 3) and isinstance(prior, priors.Density)
  assert stats.kstest(np.asarray(z).ravel(), expected.cdf).pvalue > 0.01
  np.testing.assert_allclose(
    prior.log_prob(z), expected.logpdf(z).sum(axis=1), rtol=1e-5
  )


def test_uniform_has_no_density_outside():
  z = jnp.array([[0.5, 1.0], [0.5, 1.01], [-1.01, 0.0]])
  expected = [-2 * np.log(2), -np.inf, -np.inf]
  np.testing.assert_allclose(priors.uniform(2).log_prob(z), expected, rtol=1e-6)


def test_a_sphere_has_no_density():
  prior = priors.sphere(5)
  np.testing.assert_allclose(
    np.linalg.norm(prior(jax.random.key(0), 10), axis=1), np.sqrt(5), rtol=1e-5
  )
  assert not isinstance(prior, priors.Density)
