"""Convolutions of stride 1 whose gradients are fast inside a loop on a CPU too.

A training step stands in a loop of steps. There XLA runs a convolution by a fast kernel
on a CPU only where no window is reversed and no dimension permuted, as both gradients
of `jax.lax.conv_general_dilated` do: 64 images of 28x28x32 to as many channels, 3x3,
took 10 ms alone, and the gradients 300 and 2,100 ms in a loop. Here each gradient is
such a plain convolution, of arrays that were reversed and permuted before.

The convolution and the gradient of its kernel are bilinear, and the transposes of each
are the other one or itself, so that derivatives of every order stay within the two.
"""

import functools

import jax
import jax.numpy as jnp
from jax.extend import core
from jax.interpreters import ad, batching, mlir

from gm_jax import base

Array = base.Array
_LAYOUT = ('NHWC', 'HWIO', 'NHWC')


def conv(x: Array, kernel: Array, pad: int) -> Array:
  """Convolves images with a square kernel, with zeros around them.

  It equals `jax.lax.conv_general_dilated` of stride 1 in [B, H, W, C].

  Args:
    x: `[B, H, W, I]`.
    kernel: `[K, K, I, O]`.
    pad: rows and columns of zeros on each side, at most K - 1.

  Returns:
    `[B, H + 2 pad - K + 1, W + 2 pad - K + 1, O]`.
  """
  return _conv_p.bind(x, kernel, pad=pad)


def _plain(x, kernel, *, pad):
  edges = ((pad, pad),) * 2
  return jax.lax.conv_general_dilated(
    x, kernel, (1, 1), edges, dimension_numbers=_LAYOUT
  )


def _kernel_gradient(x, grad, *, pad):
  """The sum over images and pixels of x, shifted, times the gradient `[B, h, w, O]`."""
  size = x.shape[1] + 2 * pad - grad.shape[1] + 1

  def permuted(x, grad):  # examples as channels
    x, grad = jax.lax.optimization_barrier((
      x.transpose(3, 1, 2, 0), grad.transpose(1, 2, 0, 3)
    ))  # fmt: skip
    return _plain(x, grad, pad=pad).transpose(1, 2, 0, 3)

  def native(x, grad):
    kernel = jnp.zeros((size, size, x.shape[-1], grad.shape[-1]), x.dtype)
    return jax.vjp(functools.partial(_plain, x, pad=pad), kernel)[1](grad)[0]

  return jax.lax.platform_dependent(x, grad, cpu=permuted, default=native)


def _products(x, kernel, *, pad):
  """Convolves by a matrix product a row of the kernel, for many kernels at once."""
  edge, size = (pad, pad), len(kernel)
  x = jnp.pad(x, ((0, 0), edge, edge, (0, 0)))
  h, w = (length - size + 1 for length in x.shape[1:3])
  shifted = jnp.concatenate([x[:, :, v : v + w] for v in range(size)], -1)
  rows = kernel.reshape(size, -1, kernel.shape[-1])
  return sum(shifted[:, u : u + h] @ row for u, row in enumerate(rows))


def _product_gradient(x, grad, *, pad):
  size = x.shape[1] + 2 * pad - grad.shape[1] + 1
  kernel = jnp.zeros((size, size, x.shape[-1], grad.shape[-1]), x.dtype)
  return jax.vjp(functools.partial(_products, x, pad=pad), kernel)[1](grad)[0]


def _primitive(name, plain, of_many):
  """A bilinear primitive that is `plain`, and by `jax.vmap` is `of_many`."""
  primitive = core.Primitive(name)
  primitive.def_impl(jax.jit(plain, static_argnames='pad'))

  def abstract(*avals, pad):
    out = jax.eval_shape(functools.partial(plain, pad=pad), *avals)
    return avals[0].update(shape=out.shape, dtype=out.dtype, weak_type=False)

  def batched(args, axes, *, pad):
    return jax.vmap(functools.partial(of_many, pad=pad), axes)(*args), 0

  primitive.def_abstract_eval(abstract)
  mlir.register_lowering(primitive, mlir.lower_fun(plain, multiple_results=False))
  batching.primitive_batchers[primitive] = batched
  return primitive


_conv_p = _primitive('conv', _plain, _products)
_kernel_p = _primitive('conv_kernel_gradient', _kernel_gradient, _product_gradient)


def _input_transpose(grad, kernel, pad):
  """The gradient of x: with the kernel reversed, and its channels exchanged."""
  # A barrier: XLA would make it a convolution with a reversed window.
  turned = jax.lax.optimization_barrier(kernel[::-1, ::-1].swapaxes(2, 3))
  return conv(grad, turned, len(kernel) - 1 - pad)


ad.defbilinear(
  _conv_p,
  lambda grad, x, kernel, *, pad: _input_transpose(grad, kernel, pad),
  lambda grad, x, kernel, *, pad: _kernel_p.bind(x, grad, pad=pad),
)
# <kernel gradient of (x, g), m> = <conv(x, m), g>
ad.defbilinear(
  _kernel_p,
  lambda kernel, x, grad, *, pad: _input_transpose(grad, kernel, pad),
  lambda kernel, x, grad, *, pad: conv(x, kernel, pad),
)
