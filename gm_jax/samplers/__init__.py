"""Samplers: functions that draw from models, given as functions of arrays.

`autoregressive`  ancestral sampling, one position after another
`diffusion`       from noise to data by a denoiser, in steps of several kinds
`mcmc`            Markov chains of a density known up to its normalization

>>> import jax, jax.numpy as jnp
>>> import gm_jax.samplers
>>> logits = jnp.array([50.0, -50.0])
>>> print(gm_jax.samplers.autoregressive.bernoulli(jax.random.key(0), logits))
[1 0]
"""

from gm_jax.samplers import autoregressive, diffusion, mcmc

__all__ = ['autoregressive', 'diffusion', 'mcmc']
