"""What configs make of the data's spec: spaces of phases, conditions."""

import jax.numpy as jnp

from experiments.configs.parts import runs
from gm_jax import base, conditions


def pooled(spec: base.DataSpec, ratio: int) -> base.DataSpec:
  """The spec of images at a fraction of their size, by means of squares of pixels."""
  height, width, channels = spec.shape
  shape = height // ratio, width // ratio, channels

  def forward(key, raw):
    real = jnp.asarray(raw, jnp.float32)
    squares = real.reshape(len(raw), shape[0], ratio, shape[1], ratio, channels)
    return spec.transform.forward(key, squares.mean(axis=(2, 4)))

  way = spec.transform._replace(forward=forward)
  return spec._replace(shape=shape, transform=way)


def condition(config, spec) -> conditions.Condition | None:
  """What `condition` names: nothing, the class, or numbers."""
  if config.condition == 'label' and not spec.num_classes:
    raise ValueError(f'condition = label, but data = {config.data!r} has no classes')
  table = {
    '': lambda: None,  # nothing
    'label': lambda: conditions.by_class(spec.num_classes),
    'condition': conditions.by_value,
  }
  return runs.choose(table, config.condition, 'condition')()
