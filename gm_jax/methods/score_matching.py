"""Score matching: an energy learned by the gradient of its density, without Z.

  E(x) = f(x) - log q(x),   s(x) = -grad E(x),   min_f E_p |s(x) - grad log p(x)|^2 / 2

up to a constant, of which an objective needs no score of the data: `losses.implicit`
has the exact trace of the Hessian, `losses.sliced` random directions of it,
`denoising` data with noise of one level, whose density, not that of the data, it then
learns. No chain runs in training, and no normalizer is learned.

A score tells nothing of how much mass two regions have that no data connect: E may be
off by a constant in each. q is a wide noise beside which E is one, so that p falls away
from data, and by which Z and samples are had: `gm_jax.tilted`.

Source: Estimation of Non-Normalized Statistical Models by Score Matching, Hyvarinen,
2005, JMLR 6; Sliced Score Matching, Song et al., 2019, arXiv:1905.07088; A Connection
Between Score Matching and Denoising Autoencoders, Vincent, 2011, Neural Computation 23.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import base, gradient, priors, tilted
from gm_jax.losses import denoising as noisy
from gm_jax.losses import score_matching as losses

ENERGY = 'energy'
CARD = tilted.card('score_matching')
# (score of one example, key, x [B, ...]) -> [B]
Objective = Callable[[losses.Score, base.Array, base.Array], base.Array]


def implicit(score: losses.Score, key: base.Array, x: base.Array) -> base.Array:
  """The exact objective, of D second derivatives; see `losses.implicit`."""
  del key
  return losses.implicit(score, x)


def denoising(std: float) -> Objective:
  """Score matching of data with noise of deviation `std`.

  Args:
    std: > 0, in the unit of x.

  Returns:
    The objective.

  Raises:
    ValueError: `std` is not above 0.
  """
  if not std > 0:
    raise ValueError(f'std of the noise must be > 0, got {std}')

  def objective(score, key, x):
    noise = jax.random.normal(key, x.shape, x.dtype)
    found = jax.vmap(score)(x + std * noise)
    return noisy.denoising_score_matching(found, noise, jnp.full(len(x), std, x.dtype))

  return objective


def score_matching(
  network: nn.Module,
  noise: priors.Density,
  tx: optax.GradientTransformation,
  *,
  shape: Sequence[int],
  objective: Objective = losses.sliced,
) -> base.Method:
  """An energy of real numbers by its score.

  Args:
    network: f, (x `[B, *shape]`, train) -> `[B, 1]`, twice differentiable in x.
    noise: q, of `[num, D]`, D = prod(shape), wider than the data.
    tx: the optimizer.
    shape: of an example.
    objective: `implicit`, `losses.sliced` or one of `denoising`.

  Returns:
    The method; options of samples and of estimates are those of `tilted.tilted`.

  Raises:
    ValueError: when called, data of another shape or a network that does not return
      [B, 1].
  """
  tilt, sample, queries = tilted.tilted(network, noise, shape=shape, name=ENERGY)

  def init(key, batch):
    return {ENERGY: network.init(key, batch['x'])}, {}

  def loss_fn(params, extra, key, batch):
    def log_prob(x):
      """The log-density of one example, without log Z."""
      return noise.log_prob(x.reshape(1, -1))[0] - tilt(params, x[None], train=True)[0]

    return objective(jax.grad(log_prob), key, batch['x']).mean(), (extra, {})

  return gradient.from_loss(
    loss_fn, tx, init, card=CARD, sample=sample, queries=queries
  )
