"""Rows of the table of laws: energies that are learned without chains."""

import flax.linen as nn
import optax
from rows.common import Row, plane

from gm_jax import priors
from gm_jax.losses import score_matching as losses
from gm_jax.methods import nce, score_matching
from gm_jax.models import mlp


def against_noise(wrap, prior):
  """A wide noise, by which few candidates and short chains find the data."""
  del prior
  network = mlp.MLP((16, 1), activation=nn.tanh)
  tx = wrap(optax.adam(0.03))
  return nce.nce(network, priors.normal(2, std=1.5), tx, shape=(2,), num_noise=2)


def by_score(objective):
  """A smooth energy, of one island of data that its noise reaches."""

  def make(wrap, prior):
    del prior
    network = mlp.MLP((16, 1), activation=nn.tanh)
    return score_matching.score_matching(
      network, priors.normal(2, std=1.5), wrap(optax.adam(0.03)), shape=(2,),
      objective=objective,
    )  # fmt: skip

  return make


ROWS = {
  'nce': Row(against_noise, plane(64)),
  'score_matching': Row(by_score(losses.sliced), plane(64)),
  'score_matching_denoising': Row(
    by_score(score_matching.denoising(0.1)), plane(64), slow=True
  ),
}
