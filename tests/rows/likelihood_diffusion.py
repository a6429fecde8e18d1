"""Rows of the table of laws: diffusion models with a bound of the likelihood."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from rows.common import Row

from gm_jax import denoisers
from gm_jax.methods import vdm
from gm_jax.models import lattice, mlp, noise_schedule

LEVELS = 4


class Perceptron(nn.Module):
  """A network of z and time that gives logits of every number's levels."""

  @nn.compact
  def __call__(self, x, t, condition=None, *, train=False):
    beside = jnp.concatenate([x, jnp.sin(t)[:, None]], axis=1)
    return mlp.MLP((16, 2 * LEVELS), activation=nn.tanh)(beside, train=train)


def of_levels(wrap, prior):
  del prior
  schedule = noise_schedule.NoiseSchedule(noise_schedule.Monotone(4), -6.0, 3.0)
  network = lattice.Posterior(Perceptron(), LEVELS)
  return vdm.vdm(
    network, schedule, wrap(optax.adam(1e-2)), shape=(2,), num_levels=LEVELS,
    form=denoisers.DATA,
  )  # fmt: skip


def two_levels(key):
  """[64, 2] levels, the second the first or the next."""
  first, later = jax.random.split(key)
  x = jax.random.randint(first, (64,), 0, LEVELS - 1)
  return {'x': jnp.stack([x, x + jax.random.bernoulli(later, 0.5, (64,))], axis=1)}


ROWS = {'vdm': Row(of_levels, two_levels, falls=False)}
