"""A stand-in that grows: the mean image at 4x4, then at 8x8 with half the batch.

python experiments/main.py --config=tests/standins/growing.py --workdir=runs/growing
"""

import jax
import jax.numpy as jnp
import optax

from experiments.configs.parts import runs
from gm_jax import base, conditions, gradient

CARD = base.Card(
  density='none', density_cost='none', measure='none', sampling='exact',
  sampling_cost='one_pass', training=('regression',), latents='none',
  architecture='any',
)  # fmt: skip


def get_config(arg=None):
  """The config; the argument is the step at which the model grows."""
  config = runs.run('digits', steps=8, batch_size=8)
  config.grow_at = int(arg or 4)
  return config


def mean_image(size, tx):
  """A method whose samples are its mean image with a little noise."""

  def init(key, batch):
    del key, batch
    return {'mean': jnp.zeros((size, size, 1))}, {}

  def loss_fn(params, extra, key, batch):
    del key
    loss = jnp.square(params['mean'] - batch['x']).sum(axis=(1, 2, 3)).mean()
    return loss, (extra, {})

  def sample(model, key, num, *, condition=None):
    conditions.check_unconditional(condition)
    noise = 0.01 * jax.random.normal(key, (num, size, size, 1))
    return model.params['mean'] + noise

  return gradient.from_loss(loss_fn, tx, init, card=CARD, sample=sample)


def small(spec):
  """The data's spec at half the resolution, by means of 2x2 pixels."""

  def forward(key, raw):
    n, h, w, c = raw.shape
    halves = jnp.asarray(raw, jnp.float32).reshape(n, h // 2, 2, w // 2, 2, c)
    return spec.transform.forward(key, halves.mean(axis=(2, 4)))

  height, width, channels = spec.shape
  transform = spec.transform._replace(forward=forward)
  shape = (height // 2, width // 2, channels)
  return spec._replace(shape=shape, transform=transform)


def doubled(image):
  """[H, W, C] -> [2 H, 2 W, C], every pixel four times."""
  return jnp.repeat(jnp.repeat(image, 2, axis=0), 2, axis=1)


def make_method(config, spec, *, wrap=lambda tx: tx):
  """Two phases, of unlike shape and batch size."""
  tx = wrap(optax.sgd(0.1))
  first, second = mean_image(4, tx), mean_image(8, tx)

  def grow(key, previous, batch):
    params = {'mean': doubled(previous.params['mean'])}
    return second.init(key, batch)._replace(step=previous.step, params=params)

  return (
    base.Phase(first, config.grow_at, small(spec), batch_size=2 * config.batch_size),
    base.Phase(second, config.steps, spec, grow),
  )


def make_evaluation(config, data):
  """The mean's distance from the test split's, in the last phase's space."""
  del config
  key = jax.random.key(0)
  mean = data.spec.transform.forward(key, data.arrays('test')['x']).mean(axis=0)

  def evaluation(method, model, key):
    samples = method.sample(model, key, 64)
    error = jnp.sqrt(jnp.square(samples.mean(axis=0) - mean).mean())
    return base.Result({'mean_error': (error, 'estimate, N = 64')})

  return evaluation
