"""Optimizers made of a config's leaves."""

from collections.abc import Callable

import optax

from gm_jax import gradient

# Keeps the derivative of an update finite, which unrolling needs; of every game here.
EPS_ROOT = 1e-8


def decay_steps(config) -> int:
  """Steps over which rates decay to 0, by the leaf of this name; 0 for no decay.

  -1, or no leaf, is all the steps of the run, so that a run that goes on for more
  steps decays over all of them.

  Raises:
    ValueError: below -1, or less than the steps: nothing would move afterwards.
  """
  found, steps = config.get('decay_steps', -1), max(1, config.steps)
  if found < -1:
    raise ValueError(f'decay_steps must be >= 0, or -1 for all steps, got {found}')
  if 0 < found < steps:
    raise ValueError(
      f'decay_steps = {found}, but steps = {steps}: rates would be 0 after step'
      f' {found}; -1 decays over all the steps'
    )
  return steps if found < 0 else found


def adam(
  config, learning_rate: float, *, updates: int = 1, eps_root: float = EPS_ROOT
) -> optax.GradientTransformation:
  """Adam with cosine decay to 0 and, if the config has these, warm-up and a clip.

  Leaves: `b1` and `b2`, 0.9 and 0.999 where there are none; `decay_steps`, see there;
  `warmup_steps`; `clip`, of the gradient's global norm; `weight_decay`, of AdamW,
  which is multiplied by the rate.

  Args:
    config: whose leaves are read.
    learning_rate: at the peak.
    updates: that are made a training step, by which the config counts: a critic that
      moves several times in each has its schedule stretched by them.
    eps_root: added under the root; 0 is Adam as published.

  Raises:
    ValueError: a leaf out of range.
  """
  b1, b2 = config.get('b1', 0.9), config.get('b2', 0.999)
  clip = config.get('clip', 0.0)
  warmup_steps = config.get('warmup_steps', 0)
  decay = decay_steps(config)
  for name in ('warmup_steps', 'clip', 'weight_decay'):
    if config.get(name, 0) < 0:
      raise ValueError(f'{name} must be >= 0, got {config[name]}')
  check_adam(learning_rate, b1, b2)
  schedule = learning_rate
  if decay:
    if decay <= warmup_steps:
      raise ValueError(
        f'the steps of decay, {decay}, must be above warmup_steps = {warmup_steps}'
      )
    schedule = optax.warmup_cosine_decay_schedule(
      0.0, learning_rate, updates * warmup_steps, updates * decay
    )
  elif warmup_steps:
    schedule = optax.linear_schedule(0.0, learning_rate, updates * warmup_steps)
  decayed = config.get('weight_decay', 0.0)
  options = {'b1': b1, 'b2': b2, 'eps_root': eps_root}
  tx = optax.adam(schedule, **options)
  if decayed:
    tx = optax.adamw(schedule, weight_decay=decayed, **options)
  return optax.chain(gradient.clip_by_global_norm(clip), tx) if clip else tx


def plain_adam(config) -> optax.GradientTransformation:
  """Adam as published, at `learning_rate`, for a fit without a game."""
  return adam(config, config.learning_rate, eps_root=0.0)


def adams(config, wrap: Callable) -> dict[str, optax.GradientTransformation]:
  """Both players' `adam`; the discriminator makes `num_critic` updates a step."""
  updates = config.get('num_critic', 1)
  if updates < 1:
    raise ValueError(f'num_critic must be >= 1, got {updates}')
  return {
    'g_tx': wrap(adam(config, config.g_learning_rate)),
    'd_tx': wrap(adam(config, config.d_learning_rate, updates=updates)),
  }


def linear_adam(
  config, learning_rate: float, *, updates: int = 1
) -> optax.GradientTransformation:
  """Adam whose rate stays for half of the steps, and then falls to 0 along a line.

  Args:
    config: with `steps` and `b1`.
    learning_rate: of the first half.
    updates: that are made a training step.

  Raises:
    ValueError: a leaf out of range.
  """
  check_adam(learning_rate, config.b1)
  half = max(1, updates * config.steps // 2)
  schedule = optax.linear_schedule(learning_rate, 0.0, half, half)
  return optax.adam(schedule, b1=config.b1)


def check_adam(learning_rate: float, b1: float, b2: float = 0.999) -> None:
  """Raises ValueError for a rate or a decay of averages out of range."""
  for name, value in {'b1': b1, 'b2': b2}.items():
    if not 0 <= value < 1:
      raise ValueError(f'{name} must be in [0, 1), got {value}')
  if learning_rate <= 0:
    raise ValueError(f'learning rates must be > 0, got {learning_rate}')


def autoencoder_adams(
  config, wrap: Callable
) -> dict[str, optax.GradientTransformation]:
  """`adam` of the reconstruction, of the discriminator, of the encoder against it."""
  rates = {'r': config.learning_rate, 'd': config.adversarial_rate}
  rates['e'] = config.adversarial_rate
  return {f'{name}_tx': wrap(adam(config, rate)) for name, rate in rates.items()}
