"""Convolutions: values and derivatives of every order are those of XLA's own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.models import convolution

KEYS = jax.random.split(jax.random.key(0), 4)
X = jax.random.normal(KEYS[0], (2, 4, 5, 2))
KERNEL = jax.random.normal(KEYS[1], (3, 3, 2, 3))
TANGENTS = jax.random.normal(KEYS[2], X.shape), jax.random.normal(KEYS[3], KERNEL.shape)


def lax(x, kernel, pad):
  return jax.lax.conv_general_dilated(
    x, kernel, (1, 1), ((pad, pad),) * 2, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )


@functools.partial(jax.jit, static_argnums=(0, 1))
def everything(conv, pad):
  def first(x, kernel):
    return jnp.sum(jnp.sin(conv(x, kernel, pad)))

  gradient = jax.grad(first, (0, 1))

  def second(x, kernel):  # a penalty on gradients
    return sum(jnp.sum(jnp.cos(g)) for g in gradient(x, kernel))

  many = jnp.stack([X, 2 * X]), jnp.stack([KERNEL, -KERNEL])
  mapped = []
  for axes in ((0, 0), (0, None), (None, 0)):
    args = [a if i == 0 else a[0] for a, i in zip(many, axes, strict=True)]
    mapped.append(jax.vmap(gradient, axes)(*args))
    mapped.append(
      jax.grad(lambda *a, axes=axes: jax.vmap(first, axes)(*a).sum(), (0, 1))(*args)
    )
  return {
    'value': conv(X, KERNEL, pad),
    'gradient': gradient(X, KERNEL),
    'forward over reverse': jax.jvp(gradient, (X, KERNEL), TANGENTS),
    'reverse over reverse': jax.grad(second, (0, 1))(X, KERNEL),
    'mapped': mapped,
  }


@pytest.mark.parametrize('pad', [0, 1, 2])
def test_every_derivative_is_that_of_lax(pad):
  found, expected = (everything(conv, pad) for conv in (convolution.conv, lax))
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), found, expected
  )
