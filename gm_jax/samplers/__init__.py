"""Samplers: functions that draw from models, given as functions of arrays.

`autoregressive`  ancestral sampling, one position after another
`diffusion`       from noise to data by a denoiser, in steps of several kinds
`inpainting`      what is hidden of an example: replacement, RePaint
`langevin`        chains that follow a gradient: unadjusted, adjusted, annealed
`mcmc`            Markov chains of a density known up to its normalization
`particles`       in-painting by a particle filter
`paths`           from noise to data: how straight, how far

>>> import jax, jax.numpy as jnp
>>> import gm_jax.samplers
>>> logits = jnp.array([50.0, -50.0])
>>> print(gm_jax.samplers.autoregressive.bernoulli(jax.random.key(0), logits))
[1 0]
"""

from gm_jax.samplers import (
  autoregressive,
  diffusion,
  inpainting,
  langevin,
  mcmc,
  particles,
  paths,
)

__all__ = [
  'autoregressive',
  'diffusion',
  'inpainting',
  'langevin',
  'mcmc',
  'particles',
  'paths',
]
