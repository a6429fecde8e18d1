"""What configs of models with a likelihood share: data, laws, orders, evaluation."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.configs import common
from gm_jax import orders
from gm_jax.data import dataset
from gm_jax.losses import likelihood
from gm_jax.methods import autoregressive
from gm_jax.models import transformer as transformer_lib
from gm_jax.samplers import autoregressive as sampler

EVALUATED = 2000  # examples of a split, at most
CHUNK = 125  # examples evaluated at once
COMPONENTS = 5  # logistics of a pixel


def counting(data: str, *, batch_size: int, steps: int):
  """The leaves of a fit by counting: one dispatch, one evaluation, at its end."""
  config = common.run(data, steps=steps, batch_size=batch_size)
  for name in ('log', 'evaluate', 'sample', 'checkpoint'):
    config[f'{name}_every'] = steps
  config.steps_per_dispatch = steps
  return config


def learning(data: str, *, steps: int, batch_size: int, rate: float):
  """The leaves of a fit by Adam, its rate decayed to 0, its parameters averaged."""
  config = common.run(data, steps=steps, batch_size=batch_size)
  config.learning_rate = rate
  config.clip = 1.0  # of the gradient's global norm; 0 for none
  config.ema_decay = 0.99
  config.condition = ''  # or 'label', or 'condition' of data that have one
  return config


def adam(config) -> optax.GradientTransformation:
  """Adam with cosine decay to 0 over the steps and, unless 0, a clip."""
  if config.learning_rate <= 0:
    raise ValueError(f'learning_rate must be > 0, got {config.learning_rate}')
  if config.clip < 0:
    raise ValueError(f'clip must be >= 0, got {config.clip}')
  schedule = optax.cosine_decay_schedule(config.learning_rate, max(1, config.steps))
  tx = optax.adam(schedule)
  return optax.chain(optax.clip_by_global_norm(config.clip), tx) if config.clip else tx


def check_whole(config, spec) -> None:
  """Raises ValueError unless the model sees whole numbers of known levels."""
  if spec.num_levels is None or not jnp.issubdtype(spec.dtype, jnp.integer):
    raise ValueError(
      f'data = {config.data!r} gives the model real numbers, and it needs whole ones:'
      ' images with ?transform=levels, dynamic:NAME, melodies or text'
    )


def check_binary(config, spec) -> None:
  """Raises ValueError unless the model sees zeros and ones."""
  check_whole(config, spec)
  if spec.num_levels != 2:
    raise ValueError(
      f'data = {config.data!r} has {spec.num_levels} levels, and this model needs 2:'
      ' dynamic:NAME or static:NAME'
    )


def check_images(config, spec) -> None:
  """Raises ValueError unless the data are images [H, W, C]."""
  if len(spec.shape) != 3:
    raise ValueError(f'data = {config.data!r} are not images, which this config needs')


def check_real(config, spec) -> None:
  """Raises ValueError if the model, which has a density, would see a lattice."""
  if spec.transform.measure != 'density':
    raise ValueError(
      f'data = {config.data!r} gives the model a lattice, and a density on it has no'
      ' bound: images with ?transform=dequantization, or points'
    )


def order(config, spec) -> np.ndarray:
  """The order named by `order`: rows, columns, or random by the seed."""
  table = {
    'rows': orders.rows,
    'columns': orders.columns,
    'random': lambda s: np.random.default_rng(config.seed).permutation(orders.rows(s)),
  }
  return common.choose(table, config.order, 'order')(spec.shape)


def condition(config, spec) -> autoregressive.Condition | None:
  """What `condition` names: nothing, the class, or numbers."""
  if config.condition == 'label' and not spec.num_classes:
    raise ValueError(f'condition = label, but data = {config.data!r} has no classes')
  table = {
    '': lambda: None,  # nothing
    'label': lambda: autoregressive.by_class(spec.num_classes),
    'condition': autoregressive.by_value,
  }
  return common.choose(table, config.condition, 'condition')()


def output_distribution(config, spec) -> dict:
  """The log-mass, the draw and the number of outputs that `likelihood` names."""
  check_whole(config, spec)
  levels = spec.num_levels

  def bernoulli():
    check_binary(config, spec)
    return None, likelihood.bernoulli, sampler.bernoulli

  def logistics():
    def nats(parameters, x):
      return likelihood.pixels(parameters, x[..., None], num_levels=levels)

    draw = sampler.pixels(1, levels)
    outputs = likelihood.num_pixel_parameters(COMPONENTS, 1)
    return outputs, nats, lambda key, parameters: draw(key, parameters)[:, 0]

  table = {
    'bernoulli': bernoulli,
    'categorical': lambda: (levels, likelihood.categorical, sampler.categorical),
    'logistics': logistics,
  }
  outputs, nats, draw = common.choose(table, config.likelihood, 'likelihood')()
  return {'outputs': outputs, 'likelihood': nats, 'draw': draw}


def in_chunks(fn, *arrays):
  """fn of [CHUNK, ...] at a time: [N, ...] -> [N]; None stays None."""
  num = len(arrays[0])
  size = min(CHUNK, num)
  index = jnp.arange(-(-num // size) * size).reshape(-1, size) % num
  chunks = jax.lax.map(
    lambda i: fn(*(None if a is None else a[i] for a in arrays)), index
  )
  return chunks.reshape(-1)[:num]


def scores(method, model, key, arrays, spec, given=None) -> dict:
  """Nats an example and bits a dimension, with standard errors over the examples.

  Names say of what kind they are. `nll` is the negative log-likelihood of whole
  numbers, exact; `nll_bound` a bound of it from above, be it by the model's own bound
  or by noise on the pixels; `nll_density` that of real numbers, of raw data.

  Args:
    method: with `log_prob`, or a query `elbo`.
    model: its parameters.
    key: of noise.
    arrays: raw, with `x`.
    spec: of the data.
    given: [N, ...] condition, or None.
  """
  exact = method.log_prob is not None
  if not exact and 'elbo' not in method.queries:
    raise ValueError('this method has no likelihood to report')
  nats_of = method.log_prob if exact else method.queries['elbo']
  given = None if given is None else jnp.asarray(given)
  raw = jnp.asarray(arrays['x'])
  noise_key, key = jax.random.split(key)
  x = spec.transform.forward(noise_key, raw)
  nats = in_chunks(lambda x, c: nats_of(model, key, x, condition=c), x, given)
  mass = spec.transform.measure == 'mass'
  log_det = 0.0 if mass else spec.transform.log_det(noise_key, raw)
  num_dims = math.prod(spec.shape)
  bits = likelihood.bits_per_dimension(
    nats, num_dims, measure=spec.transform.measure, log_det=log_det
  )
  found = {'nll': -(nats + log_det)}
  if spec.num_levels is not None:
    found['bits_per_dim'] = bits
  kind = '_density' if spec.num_levels is None else ''
  kind = '_bound' if not exact or (spec.num_levels and not mass) else kind
  numbers = {}
  for name, values in found.items():
    numbers[f'{name}{kind}'] = values.mean()
    numbers[f'{name}{kind}_error'] = values.std(ddof=1) / np.sqrt(len(values))
  return numbers


def splits(data, name: str = '', num: int | None = EVALUATED) -> dict:
  """Raw arrays and conditions of 'test' and, where there is one, 'validation'."""
  found = {}
  for split in ('test', 'validation'):
    try:
      arrays = data.arrays(split, num)
    except ValueError:
      if split == 'test':
        raise
      continue
    found[split] = arrays, arrays[name] if name else None
  return found


def evaluation(config, data):
  """`scores` of the test split and, as validation_..., of the validation split."""
  found = splits(data, config.get('condition', ''))
  if any(len(arrays['x']) < 2 for arrays, _ in found.values()):
    raise dataset.DataError(f'{data.name}: a split has a single example')

  def evaluate(method, model, key):
    numbers = {}
    for split, (arrays, given) in found.items():
      prefix = '' if split == 'test' else f'{split}_'
      each = scores(method, model, key, arrays, data.spec, given)
      numbers |= {prefix + name: value for name, value in each.items()}
    return numbers

  return evaluate


def sequence(module, config, spec, wrap, **kwargs):
  """An autoregressive method of a module that takes numbers one after another."""
  return autoregressive.autoregressive(
    module,
    wrap(adam(config)),
    shape=spec.shape,
    order=order(config, spec) if 'order' in config else None,
    condition=condition(config, spec),
    **kwargs,
  )


def transformer(config, spec, wrap):
  """A causal transformer over whole numbers in the order of memory."""
  check_whole(config, spec)
  common.check_sizes(config, 'width', 'layers', 'heads')
  check_dropout(config)
  module = transformer_lib.Transformer(
    math.prod(spec.shape),
    spec.num_levels,
    config.width,
    config.layers,
    config.heads,
    config.dropout,
  )
  output = {'likelihood': likelihood.categorical, 'draw': sampler.categorical}
  return sequence(module, config, spec, wrap, **output)


def pixels(network, config, spec, wrap):
  """A PixelCNN; with `components`, of pixels whose channels are given together."""
  check_whole(config, spec)
  check_images(config, spec)
  common.check_sizes(config, 'features', 'layers', 'radius')
  check_dropout(config)
  height, width, channels = spec.shape
  sizes = config.features, config.layers, config.radius
  make = functools.partial(
    network, height, width, spec.num_levels, *sizes, dropout=config.dropout
  )
  if 'components' not in config:
    if channels != 1:
      raise ValueError(
        f'data = {config.data!r} has {channels} channels, and this model takes 1;'
        ' pixelcnn_pp_digits.py takes more'
      )
    output = {'likelihood': likelihood.categorical, 'draw': sampler.categorical}
    return sequence(make(), config, spec, wrap, **output)
  common.check_sizes(config, 'components')
  outputs = likelihood.num_pixel_parameters(config.components, channels)
  module = make(outputs=outputs, channels=channels)
  return sequence(
    module,
    config,
    spec,
    wrap,
    likelihood=functools.partial(likelihood.pixels, num_levels=spec.num_levels),
    draw=sampler.pixels(channels, spec.num_levels),
    event=(channels,),
  )


def check_dropout(config) -> None:
  """Raises ValueError unless `dropout` is in [0, 1)."""
  if not 0 <= config.dropout < 1:
    raise ValueError(f'dropout must be in [0, 1), got {config.dropout}')
