"""Samplers: functions that draw from models, given as functions of arrays.

`autoregressive`  ancestral sampling, one position after another

>>> import jax, jax.numpy as jnp
>>> import gm_jax.samplers
>>> logits = jnp.array([50.0, -50.0])
>>> print(gm_jax.samplers.autoregressive.bernoulli(jax.random.key(0), logits))
[1 0]
"""

from gm_jax.samplers import autoregressive

__all__ = ['autoregressive']
