"""A stand-in with options and two conditions, whose density is an estimate.

  x | label, condition  ~  N(mu_label + condition, I)

  python experiments/main.py --config=tests/standins/conditional.py --workdir=runs/c
  python experiments/main.py --workdir=runs/c --mode=sample --condition=label=7 \
      --condition=condition=0.5 --options=temperature=0
"""

import math

import jax
import jax.numpy as jnp
import optax

from experiments.configs.parts import runs
from gm_jax import base, conditions, gradient

CARD = base.Card(
  density='estimate', density_cost='mcmc', measure='density', sampling='approximate',
  sampling_cost='iterative', training=('maximum_likelihood',), latents='none',
  architecture='any',
)  # fmt: skip


def get_config(arg=None):
  """The config; the argument 'several' adds a number to the class."""
  config = runs.run('digits?transform=dequantization', steps=8, batch_size=16)
  config.several = arg == 'several'
  return config


def by_class(shape, num_classes, tx, *, several):
  """A mean image for each class; `several` shifts it by a number, too."""
  taken = conditions.optional(conditions.by_class(num_classes), 0.1)
  if several:
    taken = conditions.several(conditions.by_class(num_classes), conditions.by_value(1))

  def mean(params, value):
    if not several:
      return jnp.einsum('bk,k...->b...', value, params['means'])
    image = jnp.einsum('bk,k...->b...', value['label'], params['means'])
    return image + value['condition'][:, :, None, None]

  def init(key, batch):
    conditions.from_batch(taken, batch)
    return {'means': 0.1 * jax.random.normal(key, (num_classes, *shape))}, {}

  def loss_fn(params, extra, key, batch):
    value = conditions.dropped(taken, key, conditions.from_batch(taken, batch))
    value = conditions.embedded(taken, value)
    loss = jnp.square(batch['x'] - mean(params, value)).sum(axis=(1, 2, 3)).mean()
    return 0.5 * loss, (extra, {})

  def walk(model, key, num, condition, steps, temperature):
    target = mean(model.params, conditions.embedded(taken, condition, num))

    def one(x, key):  # exact after one step, so that any number of them gives the same
      noise = jax.random.normal(key, x.shape)
      return target + temperature * noise, jnp.square(noise).mean()

    return jax.lax.scan(one, jnp.zeros((num, *shape)), jax.random.split(key, steps))

  def sample(model, key, num, *, condition=None, steps=4, temperature=1.0):
    return walk(model, key, num, condition, steps, temperature)[0]

  def sample_info(model, key, num, *, condition=None, steps=4, temperature=1.0):
    x, energy = walk(model, key, num, condition, steps, temperature)
    return x, {'steps': jnp.int32(steps), 'energy': energy[-1], 'last': x[:, 0, 0, 0]}

  def log_prob_estimate(model, key, x, *, condition=None, num_samples=8):
    gap = x - mean(model.params, conditions.embedded(taken, condition, len(x)))
    nats = -0.5 * jnp.square(gap).sum(axis=(1, 2, 3))
    nats -= 0.5 * math.log(2 * math.pi) * math.prod(shape)
    noise = jax.random.normal(key, (num_samples, len(x)))  # of mean 0, as of MCMC
    error = noise.std(axis=0, ddof=1) / math.sqrt(num_samples)
    return nats + noise.mean(axis=0), error

  return gradient.from_loss(
    loss_fn, tx, init, sample=sample,
    card=CARD._replace(condition=conditions.names(taken)),
    queries={'log_prob_estimate': log_prob_estimate, 'sample_info': sample_info},
  )  # fmt: skip


def make_method(config, spec, *, wrap=lambda tx: tx):
  """The method of the data's shape and classes."""
  tx = wrap(optax.sgd(0.05))
  return by_class(spec.shape, spec.num_classes, tx, several=config.several)


def make_evaluation(config, data):
  """Mean of samples of classes in turn: it depends on the options."""
  condition = jnp.arange(20) % data.spec.num_classes
  if config.several:
    condition = {'label': condition, 'condition': jnp.zeros((20, 1))}

  def evaluation(method, model, key):
    x = method.sample(model, key, 20, condition=condition)
    return {'spread': x.std(axis=(1, 2, 3)).mean()}

  return evaluation
