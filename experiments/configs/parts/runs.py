"""Leaves of a run that many configs have, and checks of leaves."""

from collections.abc import Mapping
from typing import Any

import ml_collections


def run(data: str, *, steps: int, batch_size: int) -> ml_collections.ConfigDict:
  """The leaves that the launcher reads; a config adds those of its method."""
  config = ml_collections.ConfigDict()
  config.data = data
  config.batch_size = batch_size
  config.steps = steps
  config.seed = 0
  config.seeds = 1
  config.steps_per_dispatch = 50
  config.log_every = 500
  config.evaluate_every = 1000
  config.sample_every = 1000
  config.checkpoint_every = 1000
  config.keep_checkpoints = 3
  config.best = ''  # '+metric' or '-metric': also keep the best checkpoint by it
  config.ema_decay = 0.0
  config.on_nan = 'stop'
  return config


def counting(data: str, *, batch_size: int, steps: int) -> ml_collections.ConfigDict:
  """The leaves of a fit by counting: one dispatch, one evaluation, at its end."""
  config = run(data, steps=steps, batch_size=batch_size)
  for name in ('log', 'evaluate', 'sample', 'checkpoint'):
    config[f'{name}_every'] = steps
  config.steps_per_dispatch = steps
  return config


def learning(
  data: str, *, steps: int, batch_size: int, rate: float
) -> ml_collections.ConfigDict:
  """The leaves of a fit by Adam, its rate decayed to 0, its parameters averaged."""
  config = run(data, steps=steps, batch_size=batch_size)
  config.learning_rate = rate
  config.clip = 1.0  # of the gradient's global norm; 0 for none
  config.ema_decay = 0.99
  config.condition = ''  # or 'label', or 'condition' of data that have one
  return config


def game(
  data: str,
  *,
  steps: int,
  batch_size: int,
  generator: float,
  discriminator: float,
  b1: float,
) -> ml_collections.ConfigDict:
  """The leaves of two players' Adam, their rates decayed to 0 over the steps.

  Args:
    data: name of the data set.
    steps: of training.
    batch_size: examples a step.
    generator: its learning rate.
    discriminator: its learning rate.
    b1: Adam's, of both.
  """
  config = run(data, steps=steps, batch_size=batch_size)
  config.g_learning_rate = generator
  config.d_learning_rate = discriminator
  config.b1 = b1
  config.decay_steps = -1  # over the steps; 0 for none
  return config


def ring(
  *, generator: float = 2e-3, discriminator: float = 2e-3
) -> ml_collections.ConfigDict:
  """The leaves of a game on the ring of eight Gaussians."""
  return game(
    'toy:ring',
    steps=10_000,
    batch_size=128,
    generator=generator,
    discriminator=discriminator,
    b1=0.5,
  )


def small_images(
  *, steps: int = 4000, rate: float = 1e-3, b1: float = 0.5
) -> ml_collections.ConfigDict:
  """The leaves of the digits' GANs: rates decay to 0, parameters are averaged."""
  config = game(
    'digits', steps=steps, batch_size=64, generator=rate, discriminator=rate, b1=b1
  )
  config.ema_decay = 0.99
  config.latent_size = 64
  config.base_features = 64
  return config


def autoencoder(data: str) -> ml_collections.ConfigDict:
  """The leaves of the digits' adversarial auto-encoders."""
  config = run(data, steps=6000, batch_size=64)
  config.learning_rate = 1e-3
  config.adversarial_rate = 1e-3  # of the discriminator, and of the encoder against it
  config.b1 = 0.5
  config.decay_steps = -1
  config.ema_decay = 0.99
  config.base_features = 64
  return config


def dcgan(sizes: Mapping[str, Mapping[str, Any]], arg: str | None, **more):
  """The leaves of a DCGAN's networks and training, the ordinary or the unrolled one.

  Rates decay to 0 over the steps, and what is measured and shown is the average of
  the parameters.

  Args:
    sizes: by the data's name: steps, rate, channels of the generator before its last
      doubling and of the discriminator after its first halving, and any other leaf.
    arg: name of the data; the first of `sizes` if None.
    **more: leaves of the method.

  Raises:
    ValueError: `arg` is not in `sizes`.
  """
  name = next(iter(sizes)) if arg is None else arg
  known = choose(sizes, name, 'the argument')
  chosen = dict(known)
  rate = chosen.pop('rate')
  config = game(
    name,
    steps=chosen.pop('steps'),
    batch_size=64,
    generator=rate,
    discriminator=rate,
    b1=0.5,
  )
  config.ema_decay = 0.99
  config.latent_size = 64
  config.update(chosen)
  config.update(more)
  return config


def several_critic_steps(config) -> int:
  """The `batch_size` of a config whose critic steps each have their own data."""
  return config.batch_size * config.num_critic


def choose(table: Mapping[str, Any], name: str, leaf: str) -> Any:
  """`table[name]`, or a ValueError that lists the names."""
  if name not in table:
    names = ', '.join(key or "''" for key in sorted(table))
    raise ValueError(f'{leaf} = {name!r} is not one of {names}')
  return table[name]


def check_sizes(config, *names: str, least: int = 1) -> None:
  """Raises ValueError unless these leaves are at least 1, or `least`."""
  for name in names:
    if not config[name] >= least:
      raise ValueError(f'{name} must be >= {least}, got {config[name]}')


def check_dropout(config, name: str = 'dropout') -> None:
  """Raises ValueError unless a leaf is in [0, 1)."""
  if not 0 <= config[name] < 1:
    raise ValueError(f'{name} must be in [0, 1), got {config[name]}')


def check_images(config, spec) -> None:
  """Raises ValueError unless the data are images [H, W, C]."""
  if len(spec.shape) != 3:
    raise ValueError(f'data = {config.data!r} are not images, which this config needs')
