"""Improved DDPM: T steps of noise undone, the variances of the steps learned too.

  min E |F - e|^2 + w T L_i / D,   i uniform in 1..T

with L_i the terms of a bound of -log p(x), see `learned_variance`. The network has two
outputs for each of the D numbers of an example: F, the noise or another form of
E[x | x_i], and 2 f - 1, which places the variance between its two bounds. In L_i the
mean has no gradient, so that the first term alone moves F. L_i is in nats and the first
term a mean over the D numbers; the source counts L_i / D in bits.

Source: Improved Denoising Diffusion Probabilistic Models, Nichol and Dhariwal, 2021,
arXiv:2102.09672, equations 15 and 16.
"""

import functools
import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import optax

from gm_jax import (  # fmt: skip
  base,
  conditions,
  denoisers,
  diffusion,
  gradient,
  learned_variance,
  processes,
  times,
)
from gm_jax.methods import ddpm
from gm_jax.samplers import diffusion as samplers


def improved_ddpm(
  network: nn.Module,
  tx: optax.GradientTransformation,
  *,
  shape: Sequence[int],
  betas: Sequence[float],
  num_levels: int | None = None,
  form: denoisers.Parameterization = denoisers.NOISE,
  bound_weight: float = 1e-3,
  bound: float | None = 1.0,
  condition: conditions.Condition | None = None,
) -> base.Method:
  """A diffusion model of T steps, its variances learned.

  Args:
    network: (x `[B, ..., C]`, 1000 i / T `[B]`, condition, train) -> `[B, ..., 2 C]`.
    tx: the optimizer.
    shape: of an example.
    betas: `[T]`, `processes.linear_betas` or `processes.cosine_betas`.
    num_levels: K of integers, None of real data.
    form: what F is.
    bound_weight: w, at least 0.
    bound: to which the absolute values of E[x | x_i] are cut, in L_i and in sampling,
      or None.
    condition: of the network, or None; `optional`, it can be guided to.

  Returns:
    The method. `elbo` is a mean over `num_times` steps an example, see
    `learned_variance.bound`. Options of sampling: those of `ddpm`; by ancestral, which
    is the default, variances are learned, and the network is evaluated twice a step.

  Raises:
    ValueError: betas outside (0, 1), a weight below 0; when called, data of another
      shape, or integers where there should be none.
  """
  if not bound_weight >= 0:
    raise ValueError(f'bound_weight must be >= 0, got {bound_weight}')
  num_betas, process = len(betas), processes.from_betas(betas)
  parts = diffusion.Denoising(
    learned_variance.FirstHalf(network), process, form, shape, times.even(process),
    condition, ddpm.SAMPLERS, bound,
  )  # fmt: skip
  steps = learned_variance.Chain(
    process, learned_variance.posterior(betas), form, num_levels,
    math.inf if bound is None else bound,
  )  # fmt: skip

  def outputs(params, value, key=None):
    """Returns (x_i, t) -> F, f."""
    inner = {'network': params['network']['network']}
    run = diffusion.network(parts._replace(network=network), inner, value, key)

    def predict(x_t, t):
      scale = processes.along(form.scale(process, t), x_t)
      output = run(scale * x_t, form.read(process, t))
      first, second = learned_variance.halves(output, x_t)
      return first, 0.5 * (second + 1.0)

    return predict

  def loss_fn(params, extra, key, batch):
    x = diffusion.checked(parts, batch['x'])
    i_key, noise_key, net_key = jax.random.split(key, 3)
    i = jax.random.randint(i_key, (len(x),), 1, num_betas + 1)
    value = conditions.training_embedding(condition, key, batch)
    predict = outputs(params, value, net_key)
    each, error = learned_variance.terms(steps, predict, noise_key, x, i)
    bound_rate = num_betas * each.mean()
    loss = error.mean() + bound_weight * bound_rate / math.prod(shape)
    return loss, (extra, {'error': error.mean(), 'bound': bound_rate})

  def init(key, batch):
    v = learned_variance.centered(steps, batch['x'])
    return diffusion.init(parts)(key, {**batch, 'x': v})

  def elbo(model, key, x, *, condition=None, num_times=32):
    value = conditions.embedded(
      parts.condition, condition, len(diffusion.checked(parts, x))
    )
    predict = outputs(model.params, value)
    return -learned_variance.bound(steps, predict, key, x, num_times=num_times)

  plain, queries = diffusion.sampling(parts, num_steps=num_betas)

  @functools.wraps(plain)  # whose options it has
  def sample(model, key, num, *, condition=None, **options):
    value = conditions.embedded(parts.condition, condition, num)
    predict = outputs(model.params, value)
    learned = functools.partial(
      samplers.ancestral, fraction=lambda x_t, t: predict(x_t, t)[1]
    )
    own = parts._replace(samplers={**parts.samplers, 'ancestral': learned})
    draw, _ = diffusion.sampling(own, num_steps=num_betas)
    v = draw(model, key, num, condition=condition, **options)
    return learned_variance.levels(steps, v)

  measure = 'density'
  if num_levels is not None:
    measure = 'mass'
    del queries['log_prob_estimate']  # a density, by the flow
  card = diffusion.card(parts)._replace(
    density='lower_bound', density_cost='one_pass', measure=measure,
    training=('denoising', 'variational'),
  )  # fmt: skip
  kinds = {'card': card, 'sample': sample, 'queries': {**queries, 'elbo': elbo}}
  return gradient.from_loss(loss_fn, tx, init, **kinds)
