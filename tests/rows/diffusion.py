"""Rows of the table of laws: diffusion models and flow matching."""

import functools

import flax.linen as nn
import jax.numpy as jnp
import optax
from rows.common import Row, plane

from gm_jax import conditions, processes
from gm_jax.methods import classifier_guidance, ddpm, edm, flow_matching
from gm_jax.models import mlp


class Perceptron(nn.Module):
  """A network of x, time and condition whose output is not 0 at first."""

  outputs: int = 2

  @nn.compact
  def __call__(self, x, t, condition=None, *, train=False):
    beside = [x, jnp.sin(t)[:, None]] + ([] if condition is None else [condition])
    body = mlp.MLP((16, self.outputs), activation=nn.tanh)
    return body(jnp.concatenate(beside, 1), train=train)


NETWORK = Perceptron()
TX = functools.partial(optax.adam, 1e-2)


def of_class(wrap, prior):
  """Told a class, which is left out now and then, so that it can be guided to."""
  del prior
  condition = conditions.optional(conditions.by_class(2), 0.2)
  return edm.edm(
    NETWORK, wrap(TX()), shape=(2,), data_std=0.8, condition=condition, last=20.0
  )


def steps(wrap, prior):
  del prior
  betas = processes.cosine_betas(20)
  return ddpm.ddpm(NETWORK, wrap(TX()), shape=(2,), betas=betas, snr_limit=5.0)


def straight(wrap, prior):
  del prior
  return flow_matching.flow_matching(
    NETWORK, wrap(TX()), shape=(2,), coupling=flow_matching.optimal
  )


def by_classifier(wrap, prior):
  del prior
  return classifier_guidance.classifier_guidance(
    NETWORK, Perceptron(3), wrap(TX()), shape=(2,), num_classes=3, data_std=0.8
  )


def of_two_classes(key):
  batch = plane(64)(key)
  return batch | {'label': (batch['x'][:, 0] > 1).astype('int32')}


ROWS = {
  'classifier_guidance': Row(by_classifier, of_two_classes, falls=False),
  'edm': Row(of_class, of_two_classes, falls=False),
  'ddpm': Row(steps, plane(64), falls=False),
  'flow_matching': Row(straight, plane(64), falls=False),
}
