"""Wasserstein auto-encoders: codes whose MMD from a prior is a term of the loss.

  min_{e, d} E | x - d(e(x)) |^2 + weight MMD^2({e(x_i)}, {z_i}),  z_i ~ p(z)

with a deterministic encoder. It is the aggregate of the codes that is held to the
prior, not each example's posterior as in a variational auto-encoder; where that of an
adversarial auto-encoder is a game, this is one loss. Batch-coupled: the MMD is of the
whole batch.

Source: Wasserstein Auto-Encoders, Tolstikhin et al., 2018, arXiv:1711.01558, algorithm
2.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import optax

from gm_jax import base, conditions, players, priors
from gm_jax.methods import autoencoder
from gm_jax.methods.autoencoder import DECODER, PAIR, RECONSTRUCTION

# Of the authors' kernel: its squared lengths are these times the squared distance
# expected of two draws from the prior.
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
CARD = autoencoder.CARD._replace(
  sampling='exact',
  sampling_cost='one_pass',
  training=('reconstruction', 'moment_matching'),
)


def lengths(size: int) -> tuple[float, ...]:
  """The lengths sqrt(2 Z s), s of `SCALES`, for codes of Z = size and prior N(0, I)."""
  return tuple((2.0 * size * scale) ** 0.5 for scale in SCALES)


def wae(
  encoder: nn.Module,
  decoder: nn.Module,
  tx: optax.GradientTransformation,
  *,
  prior: priors.Prior,
  discrepancy: Callable[[base.Array, base.Array], base.Array],
  weight: float,
) -> base.Method:
  """An auto-encoder whose codes are matched with a prior by a discrepancy.

  Args:
    encoder: x [B, ...] -> z [B, Z].
    decoder: z [B, Z] -> x [B, ...].
    tx: the optimizer of both.
    prior: (key, num) -> z [num, Z].
    discrepancy: (draws of the prior [B, Z], codes [B, Z]) -> [], as an unbiased MMD^2
      with `lengths`.
    weight: of the discrepancy, at least 0; 0 is the auto-encoder, with samples.

  Returns:
    The method; queries `encode`, `decode`, `reconstruct`.

  Raises:
    ValueError: a negative weight.
  """
  if not weight >= 0:
    raise ValueError(f'weight must be >= 0, got {weight}')
  forward = autoencoder.passes(encoder, decoder)

  def init(key, batch):
    pair = autoencoder.init_pair(encoder, decoder, key, batch['x'])
    group = players.new_group(tx, pair)
    return players.put_group(players.first_state({}), group, RECONSTRUCTION)

  def loss_fn(params, model_state, key, x):
    pass_key, z_key = jax.random.split(key)
    code, reconstruction, model_state = forward(params, model_state, pass_key, x)
    error = autoencoder.squared_error(x, reconstruction).mean()
    gap = discrepancy(prior(z_key, len(x)), code)
    metrics = {'reconstruction': error, 'discrepancy': gap}
    return error + weight * gap, (model_state, metrics)

  def step(state, key, batch):
    pair = players.get_group(state, PAIR, RECONSTRUCTION)
    pair, loss, metrics = players.gradient_step(loss_fn, tx, pair, key, batch['x'])
    state = players.put_group(state, pair, RECONSTRUCTION)
    return players.after_step(state), {'loss': loss, **metrics}

  def sample(model, key, num, *, condition=None):
    conditions.check_unconditional(condition)
    return players.apply_trained(decoder, DECODER, model, prior(key, num))

  queries = autoencoder.queries(encoder, decoder)
  return base.Method(CARD, init, step, sample, queries=queries)
