"""Diffusion models of any process: how one network is trained, read and sampled.

  min_F E_x E_t E_e  w(t) |F(scale x_t, read, c) - target|^2,   x_t = alpha x + sigma e

(`processes`, `denoisers`, `times`). A method says which process, what the network
predicts, how often each time is seen and how much it counts; sampling, guidance, the
score and the likelihood by the probability flow are the same for all.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from gm_jax import (
  base,
  conditions,
  denoisers,
  gradient,
  imputation,
  probability_flow,
  processes,
  times,
)  # fmt: skip
from gm_jax.losses import denoising
from gm_jax.samplers import diffusion as samplers

Array = base.Array
Coupling = Callable[[Array, Array], Array]  # (x, noise) -> noise, in another order
CARD = base.Card(
  density='estimate',
  density_cost='ode',
  measure='density',
  sampling='approximate',
  sampling_cost='iterative',
  training=('denoising',),
  latents='data_sized',
  architecture='any',
)
SAMPLERS: Mapping[str, Callable] = {
  'ddim': samplers.ddim,
  'ancestral': samplers.ancestral,
  'euler': samplers.euler,
  'heun': samplers.heun,
  'dpm_solver': samplers.dpm_solver,
  'predictor_corrector': samplers.predictor_corrector,
}


WEAK = ('unconditional', 'earlier')
EARLIER = 'earlier'  # of `extra`: the parameters of a step that was kept


class Guidance(NamedTuple):
  """How far one goes from a weaker denoiser to the model's, see `denoisers.guided`.

  weight: 1 is the model itself.
  weak: the model without its condition (classifier-free guidance), or the model of an
    earlier step (autoguidance).
  low, high: ratios sigma / alpha between which there is guidance.
  """

  weight: float = 1.0
  weak: str = 'unconditional'
  low: float = 0.0
  high: float = math.inf


class Denoising(NamedTuple):
  """A network and how it is read.

  network: (x `[B, *shape]`, t `[B]`, condition, train) -> F `[B, *shape]`.
  process: of x_t.
  form: what F is.
  shape: of an example.
  grid: of the times of sampling.
  condition: given to the network beside x_t, or None.
  samplers: by name, the first of which is the default.
  bound: of the absolute values that sampling lets the denoised data have, or None.
  """

  network: nn.Module
  process: processes.Process
  form: denoisers.Parameterization
  shape: Sequence[int]
  grid: times.Grid
  condition: conditions.Condition | None = None
  samplers: Mapping[str, Callable] = SAMPLERS
  bound: float | None = None


def init(parts: Denoising) -> Callable:
  """Returns (key, batch) -> (params, extra) of the network.

  Args:
    parts: of the model.

  Returns:
    The function, which refuses data of another shape by a ValueError.
  """

  def start(key, batch):
    x = checked(parts, batch['x'])[:2]
    value = conditions.embedded(
      parts.condition, conditions.from_batch(parts.condition, batch)
    )
    value = jax.tree.map(lambda v: v[:2], value)
    variables = parts.network.init(key, x, jnp.zeros(len(x), x.dtype), value)
    return {'network': variables['params']}, {}

  return start


def checked(parts: Denoising, x: Array) -> Array:
  """Returns x `[B, *shape]`.

  Raises:
    ValueError: another shape.
  """
  if x.shape[1:] != tuple(parts.shape):
    wanted = ', '.join(map(str, parts.shape))
    raise ValueError(f'x must be [B, {wanted}], got {x.shape}')
  return x


def network(
  parts: Denoising, params: base.Params, value: base.PyTree, key: Array | None = None
) -> Callable:
  """Returns the network as (x, t) -> F.

  Args:
    parts: of the model.
    params: of the network.
    value: the embedded condition `[B, ...]`, or None.
    key: of dropout in training; None is evaluation.
  """

  def apply(x, t):
    rngs = {} if key is None else {'dropout': key}
    return parts.network.apply(
      {'params': params['network']}, x, t, value, train=key is not None, rngs=rngs
    )

  return apply


def errors(
  parts: Denoising,
  params: base.Params,
  key: Array,
  batch: base.Batch,
  t: Array,
  coupling: Coupling | None = None,
) -> Array:
  """The mean squared errors of F against its target, `[B]`, of one noise each.

  Args:
    parts: of the model.
    params: of the network.
    key: of the noise, dropout and dropped conditions.
    batch: with x.
    t: `[B]` times.
    coupling: which noise stands beside which data; None is as it is drawn.
  """
  noise_key, net_key = jax.random.split(key)
  x = checked(parts, batch['x'])
  noise = jax.random.normal(noise_key, x.shape, x.dtype)
  noise = noise if coupling is None else coupling(x, noise)
  x_t = processes.noised(parts.process, x, noise, t)
  value = conditions.training_embedding(parts.condition, key, batch)
  scale = processes.along(parts.form.scale(parts.process, t), x)
  predict = network(parts, params, value, net_key)
  output = predict(scale * x_t, parts.form.read(parts.process, t))
  target = denoisers.target(parts.form, parts.process, x, noise, t)
  return denoising.squared_error(output, target)


def denoiser(
  parts: Denoising,
  model: base.Model,
  num: int,
  condition: base.PyTree = None,
  guidance: Guidance | None = None,
) -> denoisers.Denoiser:
  """The model as a denoiser of `num` examples, under its condition and guided.

  Args:
    parts: of the model.
    model: its parameters; those of an earlier step lie in `extra`, see `keep_earlier`.
    num: B.
    condition: `[B, ...]`, a dict of such, or None.
    guidance: from which denoiser, and how far, or None.

  Raises:
    ValueError: guidance without what it needs, or a condition that does not fit.
  """

  def under(params, condition):
    value = conditions.embedded(parts.condition, condition, num)
    return denoisers.denoiser(network(parts, params, value), parts.process, parts.form)

  strong = under(model.params, condition)
  if guidance is None or guidance.weight == 1.0:
    return strong
  what = f'guidance = {guidance.weight:g}'
  if guidance.weak not in WEAK:
    raise ValueError(f'weak must be one of {", ".join(WEAK)}, got {guidance.weak!r}')
  if guidance.weak == 'earlier':
    if EARLIER not in model.extra:
      raise ValueError(f'{what} from an earlier step needs a model that has kept one')
    weak = under(model.extra[EARLIER], condition)
  else:
    if parts.condition is None or not parts.condition.rate:
      raise ValueError(f'{what} needs a model trained with and without its condition')
    if condition is None:
      raise ValueError(f'{what} needs a condition to be guided to')
    weak = under(model.params, None)
  interval = guidance.low, guidance.high
  interval = None if interval == (0.0, math.inf) else interval
  return denoisers.guided(strong, weak, guidance.weight, parts.process, interval)


def keep_earlier(method: base.Method, step: int) -> base.Method:
  """The method that keeps its parameters of a step, to be guided away from them.

  Source: Guiding a Diffusion Model with a Bad Version of Itself, Karras et al., 2024,
  arXiv:2406.02507, where the weak model is smaller as well as less trained.

  Args:
    method: of this module.
    step: from which on they stay as they are, > 0.

  Raises:
    ValueError: another step.
  """
  if step < 1:
    raise ValueError(f'the step that is kept must be >= 1, got {step}')

  def init(key, batch):
    state = method.init(key, batch)
    copy = jax.tree.map(jnp.copy, state.params)  # else donated twice
    return state._replace(extra={**state.extra, EARLIER: copy})

  def move(state, key, batch):
    state, metrics = method.step(state, key, batch)
    kept = jax.tree.map(
      lambda now, before: jnp.where(state.step <= step, now, before),
      state.params, state.extra[EARLIER],
    )  # fmt: skip
    return state._replace(extra={**state.extra, EARLIER: kept}), metrics

  return method._replace(init=init, step=move)


def run_sampler(
  parts: Denoising,
  denoise: denoisers.Denoiser,
  key: Array,
  num: int,
  sampler: str,
  num_steps: int | Array,
) -> Array:
  """Draws from noise by a sampler of the model, `[num, *shape]`.

  Args:
    parts: of the model.
    denoise: of `num` examples.
    key: `[]` typed key.
    num: of examples.
    sampler: one of `parts.samplers`.
    num_steps: N, at least 1.

  Raises:
    ValueError: another sampler, or a number of steps below 1.
  """
  if sampler not in parts.samplers:
    known = ', '.join(parts.samplers)
    raise ValueError(f'no sampler {sampler!r}; there are: {known}')
  if parts.bound is not None:
    denoise = denoisers.bounded(denoise, parts.bound)
  start, key = jax.random.split(key)
  x = samplers.noise(parts.process, start, (num, *parts.shape))
  draw = parts.samplers[sampler]
  return draw(denoise, parts.process, key, x, parts.grid, num_steps)


def sampling(parts: Denoising, *, num_steps: int = 50) -> tuple[Callable, dict]:
  """`sample` of a method, and its queries `score`, `log_prob_estimate`, `impute`.

  Args:
    parts: of the model.
    num_steps: the default.

  Returns:
    `sample` with the options `num_steps`, `sampler`, by name, `guidance`, `weak`, `low`
    and `high` (see `Guidance`); and the queries.
  """
  first = next(iter(parts.samplers))
  default = num_steps

  def sample(
    model, key, num, *, condition=None, num_steps=default, sampler=first, guidance=1.0,
    weak='unconditional', low=0.0, high=math.inf,
  ):  # fmt: skip
    to = Guidance(guidance, weak, low, high)
    denoise = denoiser(parts, model, num, condition, to)
    return run_sampler(parts, denoise, key, num, sampler, num_steps)

  def score(model, key, x, t, *, condition=None):
    del key
    denoised = denoiser(parts, model, len(x), condition)(checked(parts, x), t)
    return denoisers.score(parts.process, denoised, x, t)

  def log_prob_estimate(model, key, x, *, condition=None, num_probes=4):
    denoise = denoiser(parts, model, len(checked(parts, x)), condition)
    return probability_flow.likelihood(
      parts.process, denoise, key, x, num_probes=num_probes
    )

  def denoise(model, num, condition, *guidance):
    found = denoiser(parts, model, num, condition, Guidance(*guidance))
    return found if parts.bound is None else denoisers.bounded(found, parts.bound)

  impute = imputation.query(
    parts.process, parts.grid, parts.shape, denoise, num_steps=default
  )
  queries = {'score': score, 'log_prob_estimate': log_prob_estimate, 'impute': impute}
  return sample, queries


def method(
  parts: Denoising,
  tx: optax.GradientTransformation,
  draw: times.Times,
  *,
  weight: Callable[[Array], Array] | None = None,
  coupling: Coupling | None = None,
  num_steps: int = 50,
) -> base.Method:
  """The method of a weighted mean of squared errors over times.

  Args:
    parts: of the model.
    tx: the optimizer.
    draw: of the times of training.
    weight: w of times `[B]`; None is 1.
    coupling: which noise stands beside which data; None is as it is drawn.
    num_steps: the default of sampling.

  Returns:
    The method. Options of sampling: `num_steps`, `sampler`, `guidance`.
  """

  def loss_fn(params, extra, key, batch):
    t_key, key = jax.random.split(key)
    t = draw(t_key, len(batch['x']))
    error = errors(parts, params, key, batch, t, coupling)
    weighted = error if weight is None else weight(t) * error
    return weighted.mean(), (extra, {'error': error.mean()})

  sample, queries = sampling(parts, num_steps=num_steps)
  return gradient.from_loss(
    loss_fn, tx, init(parts), card=card(parts), sample=sample, queries=queries
  )


def card(parts: Denoising) -> base.Card:
  """The card of a diffusion model of this condition."""
  return CARD._replace(condition=conditions.names(parts.condition))
