"""Variational diffusion models: a bound of log p(x) whose noise schedule is learned.

  -log p(x) <= KL(q(z_1 | x) || N(0, I)) + E[-log p(x | z_0)]
               + E_t,e[gamma'(t) |e - e'(z_t, gamma(t))|^2 / 2]

as `diffusion_bound` has it, with its variant of T steps. The network and the ends
gamma(0), gamma(1) go down the bound. The interior of gamma does not change the bound's
mean, only its variance, and goes down the square of the diffusion loss.

Source: Variational Diffusion Models, Kingma et al., 2021, arXiv:2107.00630.
"""

import functools
import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import base, conditions, denoisers, diffusion, processes, times
from gm_jax import diffusion_bound as bound_lib
from gm_jax.models import noise_schedule
from gm_jax.samplers import diffusion as samplers

SAMPLERS = {'ancestral': samplers.ancestral, **diffusion.SAMPLERS}
UNIT = processes.rectified()  # its times are those of [0, 1]
CARD = diffusion.CARD._replace(
  density='lower_bound',
  density_cost='one_pass',
  measure='mass',
  training=('variational', 'denoising'),
)


def vdm(
  network: nn.Module,
  schedule: nn.Module,
  tx: optax.GradientTransformation,
  *,
  shape: Sequence[int],
  num_levels: int,
  form: denoisers.Parameterization = denoisers.NOISE,
  num_steps: int = 0,
  condition: conditions.Condition | None = None,
) -> base.Method:
  """A diffusion model of integers by a bound of their log-mass.

  Args:
    network: F, (z `[B, *shape]`, gamma / 8 `[B]`, condition, train) -> `[B, *shape]`.
    schedule: `noise_schedule.NoiseSchedule`.
    tx: the optimizer.
    shape: of an example, integers in [0, K).
    num_levels: K.
    form: what F is, but for its time, which is always that of gamma.
    num_steps: T, for which all of the schedule is trained by the bound; 0 is infinitely
      many.
    condition: of the network, or None; `optional`, it can be guided to.

  Returns:
    The method. Its `elbo` is a mean over `num_times` times an example. Options of
    sampling: `num_steps`, `sampler`, `guidance`.

  Raises:
    ValueError: when called, data that are no integers or of another shape.
  """
  parts = diffusion.Denoising(
    network, bound_lib.GAMMA, form._replace(read=denoisers.by_noise), shape,
    times.even(UNIT), condition, SAMPLERS, bound=1.0,
  )  # fmt: skip
  draw, kinds = times.stratified(UNIT), {'num_levels': num_levels}
  counts, default = {'num_steps': num_steps}, num_steps or 100

  def gamma(params):
    return lambda t: schedule.apply({'params': params}, t)

  def init(key, batch):
    net_key, own_key = jax.random.split(key)
    v = bound_lib.centered(batch['x'], **kinds)
    params, extra = diffusion.init(parts)(net_key, {**batch, 'x': v})
    params['schedule'] = schedule.init(own_key, jnp.zeros(()))['params']
    return base.State(jnp.zeros((), jnp.int32), params, extra, tx.init(params), ())

  def loss_fn(params, at, key, batch):
    noise_key, net_key = jax.random.split(key)
    x = diffusion.checked(parts, batch['x'])
    value = conditions.training_embedding(condition, key, batch)
    predict = diffusion.network(parts, {'network': params}, value, net_key)
    denoise = denoisers.denoiser(predict, parts.process, parts.form)
    found = bound_lib.terms(denoise, at, noise_key, x, **kinds, **counts)
    return sum(found).mean(), found

  def step(state, key, batch):
    t_key, key = jax.random.split(key)
    t, params = draw(t_key, len(batch['x'])), state.params
    # 1. The schedule, and the bound of the network at what it gives.
    at, pull = jax.vjp(
      lambda own: bound_lib.levels(gamma(own), t, **counts), params['schedule']
    )
    (loss, found), (net, slopes) = jax.value_and_grad(loss_fn, (0, 1), has_aux=True)(
      params['network'], at, key, batch
    )
    # 2. The ends go down the bound.
    (own,) = pull(slopes)
    # 3. The interior goes down the mean of l^2 / D, l the diffusion loss of an example.
    # It depends on gamma and gamma' of its own time alone, so that its derivative by
    # them is that of l times 2 l / D: no second pass through the network.
    if 'interior' in own and not num_steps:
      twice = 2 * found.diffusion / math.prod(shape)
      squared = jax.tree.map(jnp.zeros_like, slopes)._replace(
        gamma=twice * slopes.gamma, other=twice * slopes.other
      )
      own = {**own, 'interior': pull(squared)[0]['interior']}
    grads = {'network': net, 'schedule': own}
    updates, opt_state = tx.update(grads, state.opt_state, params)
    params = optax.apply_updates(params, updates)
    metrics = {'loss': loss, 'low': at.low, 'high': at.high}
    metrics |= {name: value.mean() for name, value in found._asdict().items()}
    state = state._replace(step=state.step + 1, params=params, opt_state=opt_state)
    return state, metrics

  def elbo(model, key, x, *, condition=None, num_times=32):
    denoise = diffusion.denoiser(parts, model, len(x), condition)
    t_key, key = jax.random.split(key)
    first = draw(t_key, len(x))

    def once(inputs):
      key, later = inputs  # of an example too the times are stratified
      t = (first + later) % 1.0
      at = bound_lib.levels(gamma(model.params['schedule']), t, **counts)
      return sum(bound_lib.terms(denoise, at, key, x, **kinds, **counts))

    inputs = jax.random.split(key, num_times), jnp.arange(num_times) / num_times
    return -jax.lax.map(once, inputs).mean(axis=0)

  def of_schedule(model):
    """Samples and queries of real numbers, by the model's own schedule."""
    rising = gamma(model.params['schedule'])
    process = processes.from_log_snr(
      lambda t: -rising(t), lambda log_snr: noise_schedule.inverse(rising, -log_snr)
    )
    return diffusion.sampling(parts._replace(process=process), num_steps=default)

  def sample(
    model, key, num, *, condition=None, num_steps=default, sampler='ancestral',
    guidance=1.0,
  ):  # fmt: skip
    plain, _ = of_schedule(model)
    options = {'num_steps': num_steps, 'sampler': sampler, 'guidance': guidance}
    v = plain(model, key, num, condition=condition, **options)
    return bound_lib.nearest(v, **kinds)

  @functools.wraps(diffusion.sampling(parts, num_steps=default)[1]['impute'])
  def impute(model, key, x, observed, **options):
    v = bound_lib.centered(x, **kinds)
    found = of_schedule(model)[1]['impute'](model, key, v, observed, **options)
    return jnp.where(observed, x, bound_lib.nearest(found, **kinds))

  card = CARD._replace(condition=conditions.names(condition))
  queries = {'elbo': elbo, 'impute': impute}
  return base.Method(card, init, step, sample, queries=queries)
