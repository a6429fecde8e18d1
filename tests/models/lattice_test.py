"""The denoiser of levels beside Bayes' rule by enumeration."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from gm_jax.models import lattice

LEVELS, rng = 5, np.random.default_rng(0)
VALUES, LOGITS = np.linspace(-1, 1, LEVELS), rng.normal(size=(2, LEVELS))


class Constant(nn.Module):
  """Logits of levels, whatever z: of independent numbers."""

  logits: tuple

  @nn.compact
  def __call__(self, z, t, condition=None, *, train=False):
    return jnp.broadcast_to(jnp.array(self.logits), (len(z), len(self.logits)))


@pytest.mark.parametrize('gamma', [-12.0, -4.0, 0.0, 6.0])
def test_of_independent_numbers_it_is_the_posterior_mean_by_enumeration(gamma):
  alpha, var = np.sqrt(special.expit(-gamma)), special.expit(gamma)
  z = alpha * rng.choice(VALUES, (4, 2)) + np.sqrt(var) * rng.normal(size=(4, 2))
  states = np.array(list(itertools.product(VALUES, repeat=2)))
  log_p = np.add.outer(*LOGITS).ravel()
  far = ((z[:, None] - alpha * states) ** 2).sum(axis=-1)
  expected = special.softmax(log_p - far / (2 * var), axis=1) @ states
  module = lattice.Posterior(Constant(tuple(LOGITS.ravel().tolist())), LEVELS)
  found = jax.jit(lambda *args: module.apply({}, *args))(z, np.full(4, gamma / 8))
  np.testing.assert_allclose(found, expected, atol=2e-4)


def test_images_are_flat_to_a_network_of_vectors_and_every_number_has_its_logits():
  """Certain logits are told, in the order of memory."""
  levels = rng.integers(0, LEVELS, (1, 2, 3, 1))
  sure = 1e3 * np.eye(LEVELS)[levels.ravel()].ravel()
  module = lattice.Posterior(Constant(tuple(sure.tolist())), LEVELS, is_flat=True)
  found = module.apply({}, jnp.zeros((2, 2, 3, 1)), jnp.full(2, 0.5))
  np.testing.assert_allclose(found, VALUES[levels].repeat(2, 0), atol=1e-5)


def test_it_is_finite_at_every_noise_and_another_number_of_outputs_is_refused():
  module = lattice.Posterior(Constant((0.0,) * LEVELS), LEVELS)
  z = jnp.array([[0.5], [-3.0], [100.0]])
  both = jax.jit(jax.value_and_grad(lambda z, t: module.apply({}, z, t).sum()))
  for gamma in (-40.0, 40.0):
    value, slope = both(z, np.full(3, gamma / 8))
    assert np.isfinite(value) and np.isfinite(slope).all()
  with pytest.raises(ValueError, match='5 levels must give as many outputs'):
    module.apply({}, jnp.zeros((3, 2)), jnp.zeros(3))
