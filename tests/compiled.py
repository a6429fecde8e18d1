"""A method whose functions are compiled whole: op by op they cost many times more."""

import jax

from gm_jax import base


def compiled(method: base.Method) -> base.Method:
  """The same by `jax.jit`; numbers of samples are constants of the program."""
  jitted = {name: jax.jit(getattr(method, name)) for name in ('init', 'step')}
  if method.sample is not None:
    jitted['sample'] = jax.jit(method.sample, static_argnums=2)
  if method.log_prob is not None:
    jitted['log_prob'] = jax.jit(method.log_prob)
  return method._replace(**jitted)
