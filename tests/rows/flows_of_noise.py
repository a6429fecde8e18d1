"""Rows of the table of laws: scores in continuous time, reflow, learned variances."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from rows.common import Row, plane

from gm_jax import processes
from gm_jax.methods import improved_ddpm, rectified_flow, score_sde
from gm_jax.models import mlp


class Perceptron(nn.Module):
  """A network of x and time whose output is not 0 at first."""

  outputs: int = 2

  @nn.compact
  def __call__(self, x, t, condition=None, *, train=False):
    beside = jnp.concatenate([x, jnp.sin(t)[:, None]], 1)
    return mlp.MLP((16, self.outputs), activation=nn.tanh)(beside, train=train)


TX = functools.partial(optax.adam, 1e-2)


def score(wrap, prior):
  del prior
  return score_sde.score_sde(
    Perceptron(), wrap(TX()), shape=(2,), num_steps=10,
    process=processes.sub_variance_preserving(high=4.0), weighting=score_sde.likelihood,
  )  # fmt: skip


def reflow(wrap, prior):
  del prior
  return rectified_flow.rectified_flow(
    Perceptron(), wrap(TX()), shape=(2,), reflow=rectified_flow.Reflow(2, 4),
    num_steps=4,
  )  # fmt: skip


def learned(wrap, prior, num_levels=None):
  del prior
  return improved_ddpm.improved_ddpm(
    Perceptron(4), wrap(TX()), shape=(2,), betas=processes.cosine_betas(10),
    num_levels=num_levels,
  )  # fmt: skip


def integers(key):
  return {'x': jax.random.randint(key, (64, 2), 0, 5)}


ROWS = {
  'score_sde': Row(score, plane(64), falls=False),
  'rectified_flow': Row(reflow, plane(64), falls=False),
  'improved_ddpm': Row(
    functools.partial(learned, num_levels=5), integers, falls=False, levels=5
  ),
  'improved_ddpm_real': Row(learned, plane(64), falls=False, slow=True),
}
