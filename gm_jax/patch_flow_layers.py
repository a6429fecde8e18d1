"""Autoregressive layers of flows over sequences of vectors, as patches of an image.

  z_t = f(x_t; params(x_1 ... x_{t-1})),   log |det dz/dx| = sum over t of f's own

where f takes every number of a vector by itself and a causal transformer gives its
parameters. A flow of several, the order of the vectors reversed after each, with f(x) =
(x - mean) exp(-log_std), is TarFlow. Of the conventions see `bijectors`.

Source: Normalizing Flows are Capable Generative Models, Zhai et al., 2024,
arXiv:2412.06329, section 2.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from gm_jax import bijectors, monotone

MakeModule = Callable[[int], nn.Module]  # outputs of a vector -> causal module


def causal_transformer(
  make: MakeModule, function: monotone.Monotone
) -> bijectors.Bijection:
  """Each vector by a function whose parameters the vectors before it give.

  Forward is one pass. The inverse makes one vector after another with a cache of keys
  and values: the work of T vectors, one after another, and not of T passes.

  Args:
    make: number of outputs -> module of x `[B, T, P]`, called as `module(x,
      condition)`, with methods `start`, `conditional` and `update`, as
      `models.patch_transformer.PatchTransformer`.
    function: of each number.

  Returns:
    The map, of x `[B, T, P]` to z of the same shape.
  """

  def module_of(x):
    return make(x.shape[-1] * function.num_params)

  def init(key, x, condition=None):
    return module_of(x).init(key, x, condition)['params']

  def forward(params, x, condition=None):
    found = module_of(x).apply({'params': params}, x, condition)
    z, each = function.forward(found.reshape(*x.shape, function.num_params), x)
    return z, bijectors.total(each)

  def inverse(params, z, condition=None):
    apply = functools.partial(module_of(z).apply, {'params': params})

    def step(memory, here):
      i, value = here
      found = apply(memory, i, method='conditional')
      found = found.reshape(*value.shape, function.num_params)
      value, each = function.inverse(found, value)
      return apply(memory, i, value, method='update'), (value, bijectors.total(each))

    memory = apply(len(z), condition, method='start')
    inputs = jnp.arange(z.shape[1]), jnp.moveaxis(z, 1, 0)
    _, (x, each) = jax.lax.scan(step, memory, inputs)
    return jnp.moveaxis(x, 0, 1), each.sum(axis=0)

  return bijectors.Bijection(init, forward, inverse, inverse_cost='per_dimension')


def without_cache(make: MakeModule, function: monotone.Monotone) -> bijectors.Bijection:
  """The same map, its inverse by a full pass a vector: for modules without a cache.

  Args:
    make: number of outputs -> module of x `[B, T, P]`, called as `module(x,
      condition)`.
    function: of each number.

  Returns:
    The map, of x `[B, T, P]` to z of the same shape.
  """

  def inverse(params, z, condition=None):
    module = make(z.shape[-1] * function.num_params)

    def one(x):
      found = module.apply({'params': params}, x, condition)
      return function.inverse(found.reshape(*z.shape, function.num_params), z)

    # After t passes the first t vectors are right.
    x = jax.lax.fori_loop(0, z.shape[1] - 1, lambda _, x: one(x)[0], jnp.zeros_like(z))
    x, each = one(x)
    return x, bijectors.total(each)

  return causal_transformer(make, function)._replace(inverse=inverse)


def tarflow(
  make: MakeModule,
  num_layers: int,
  *,
  shape: bijectors.Shape,
  function: monotone.Monotone | None = None,
  layer: Callable[..., bijectors.Bijection] = causal_transformer,
) -> bijectors.Bijection:
  """Layers over a sequence, its order reversed after each, to vectors `[B, D]`.

  Args:
    make: as of `causal_transformer`; all layers have the same module, with parameters
      of their own.
    num_layers: >= 1.
    shape: (T, P), of the sequence.
    function: of each number; `monotone.standardization` if None.
    layer: `causal_transformer`, or `without_cache`.

  Returns:
    The map, of x `[B, T, P]`.

  Raises:
    ValueError: no layer.
  """
  one = layer(make, function or monotone.standardization())
  turned = bijectors.chain(one, bijectors.reverse(axis=1))
  repeated = bijectors.repeated(turned, num_layers)
  return bijectors.chain(repeated, bijectors.flatten(shape))
