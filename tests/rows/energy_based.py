"""Rows of the table of laws: energies that are learned by chains."""

import functools

import flax.linen as nn
import jax.numpy as jnp
import optax
from rows.common import Row, plane

from gm_jax import chains as chains_lib
from gm_jax import priors
from gm_jax.methods import igebm, jem
from gm_jax.models import mlp
from gm_jax.samplers import langevin


def network(num_outputs):
  return mlp.MLP((16, num_outputs), activation=nn.tanh)


def chains_of(noise, size, **more):
  return chains_lib.Chains(
    noise, num_steps=10, step_size=0.05, transition=langevin.mala, size=size, rate=0.1,
    sampling_steps=40, **more,
  )  # fmt: skip


def energy(wrap, prior, size=256):
  """Beside a wide noise, at which chains begin that are decided by Metropolis."""
  del prior
  noise = priors.normal(2, std=1.5)
  return igebm.igebm(
    network(1), chains_of(noise, size), wrap(optax.adam(0.03, b1=0.0)), shape=(2,),
    beside=noise, weight=0.01, gap_limit=1e3,
  )  # fmt: skip


def classifier(wrap, prior):
  """Of three classes by the angle around the data's center, a quarter unlabelled."""
  del prior
  chains = chains_of(priors.uniform(2), 256, bounds=(-2.0, 2.0))
  return jem.jem(
    network(3), chains, wrap(optax.adam(0.01, b1=0.0)), shape=(2,), num_classes=3,
    weight=0.01, input_noise=0.05,
  )  # fmt: skip


def labelled(key):
  x = plane(64)(key)['x']
  label = jnp.floor(jnp.arctan2(*(x - x.mean(axis=0)).T) / 2.1).astype(jnp.int32) + 1
  return {'x': x, 'label': jnp.where(jnp.arange(64) % 4, label, -1)}


ROWS = {
  'igebm': Row(energy, plane(64)),
  'igebm_cd': Row(functools.partial(energy, size=None), plane(64), slow=True),
  'jem': Row(classifier, labelled),
}
