"""A stand-in with options and conditions, whose density is an estimate.

  x | condition  ~  N(mu + sum over embedded parts, I)

conditioned on the class, on class and a number, on the domain, or on a text.

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
  """The config; the argument is the condition, one of CONDITIONS."""
  config = runs.run('digits?transform=dequantization', steps=8, batch_size=16)
  config.condition = arg or 'label'
  return config


def bag_of_tokens(length):
  """Conditions on how often each of 256 tokens stands in a text."""
  tokens = conditions.by_tokens(length)
  return tokens._replace(embed=lambda text: jax.nn.one_hot(text, 256).sum(axis=1))


# What a config's `condition` names, from the data's spec.
CONDITIONS = {
  'label': lambda spec: conditions.optional(conditions.by_class(spec.num_classes), 0.1),
  'several': lambda spec: conditions.concatenated(
    conditions.several(conditions.by_class(spec.num_classes), conditions.by_value(1))
  ),
  'domain': lambda spec: conditions.by_class(
    spec.parts['domain'].num_levels, name='domain'
  ),
  'text': lambda spec: bag_of_tokens(*spec.parts['text'].shape),
}


def linear_gaussian(spec, tx, taken):
  """A Gaussian around a linear function of the embedded condition."""
  shape = spec.shape

  def mean(params, value):
    return jnp.einsum('bk,k...->b...', value, params['means'])

  def init(key, batch):
    value = conditions.embedded(taken, conditions.from_batch(taken, batch))
    return {'means': 0.1 * jax.random.normal(key, (value.shape[1], *shape))}, {}

  def loss_fn(params, extra, key, batch):
    value = conditions.training_embedding(taken, key, batch)
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
  """The method of the data's shape and the condition named."""
  tx = wrap(optax.sgd(0.05))
  return linear_gaussian(spec, tx, CONDITIONS[config.condition](spec))


def make_evaluation(config, data):
  """The spread of samples under the test split's conditions; it depends on options."""
  del config

  def evaluation(method, model, key):
    test = data.arrays('test', 20)
    names = method.card.condition
    condition = {name: test[name] for name in names}
    condition = condition if len(names) > 1 else condition[names[0]]
    x = method.sample(model, key, len(test['x']), condition=condition)
    return {'spread': x.std(axis=(1, 2, 3)).mean()}

  return evaluation
