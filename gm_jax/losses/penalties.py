"""Penalties on the gradient of a critic with respect to its input.

A critic is a function x [B, ...] -> [B]; its parameters are closed over by the
caller, who differentiates the penalty in them. Norms are Euclidean over all axes
of an example, in logits per unit of x. Everything comes back unreduced as [B],
without its weight: the caller multiplies and takes the mean.

The gradient is that of the sum of the outputs. Where a critic lets its examples
interact (batch normalization, minibatch statistics) the sum mixes them and every
penalty here is batch-coupled; use layer normalization, or none.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from gm_jax.losses import shapes

Array = jax.Array
Critic = Callable[[Array], Array]


def _squared_gradient_norm(critic: Critic, x: Array) -> Array:
  """The squared norm of d critic / d x per example, `[B]`."""
  (x,) = shapes.floats(x=x)

  def total(x):
    logits = critic(x)
    if logits.shape != x.shape[:1]:
      raise ValueError(
        f'critic must map x {x.shape} to one number an example, [B] ='
        f' {x.shape[:1]}, but returned {logits.shape}'
      )
    # Row i of the sum's gradient is that of example i, in one backward pass for all.
    return logits.sum()

  return jnp.square(jax.grad(total)(x)).sum(axis=tuple(range(1, x.ndim)))


def _gradient_norm(critic: Critic, x: Array) -> Array:
  """The norm of d critic / d x per example, `[B]`."""
  squares = _squared_gradient_norm(critic, x)
  # The inner `where` keeps the derivative of sqrt away from 0, where it is
  # infinite and times the outer zero would be NaN.
  positive = squares > 0
  return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0)


def _interpolate(key: Array, real: Array, fake: Array) -> Array:
  """Points `[B, ...]` on the segments between pairs, a uniform fraction each."""
  real, fake = shapes.floats(real=real, fake=fake)
  chex.assert_equal_shape(
    [real, fake],
    custom_message='real and fake must both be [B, ...] of one shape',
    exception_type=ValueError,
  )
  shape = real.shape[:1] + (1,) * (real.ndim - 1)  # one e for all of an example
  epsilon = jax.random.uniform(key, shape, real.dtype)
  return fake + epsilon * (real - fake)


def gradient_penalty(
  critic: Critic, key: Array, real: Array, fake: Array, *, target: float = 1.0
) -> Array:
  """The two-sided gradient penalty of WGAN-GP, between data and samples.

  (|| grad D(x_hat) || - target)^2,  x_hat = e x + (1 - e) G(z),  e ~ U(0, 1)

  with one e an example, so that x_hat lies on the segment between the two.
  Where the gradient is zero the penalty's own derivative is taken to be zero.
  Batch-coupled where the critic is.

  Source: Improved Training of Wasserstein GANs, Gulrajani et al., 2017,
  arXiv:1704.00028, eq. 3. The paper's weight is 10, its target 1; a target of 0
  is Improving Generalization and Stability of Generative Adversarial Networks,
  Thanh-Tung et al., 2019, arXiv:1902.03984.

  Args:
    critic: x [B, ...] -> [B] logits.
    key: `[]` typed key of the interpolation.
    real: `[B, ...]` data.
    fake: `[B, ...]` samples, paired with the data by position.
    target: the norm aimed at, in logits per unit of x.

  Returns:
    `[B]` in (logits per unit of x)^2.

  Raises:
    ValueError: `real` and `fake` differ in shape, or the critic's output is not
      [B].
  """
  norm = _gradient_norm(critic, _interpolate(key, real, fake))
  return jnp.square(norm - target)


def one_sided_gradient_penalty(
  critic: Critic, key: Array, real: Array, fake: Array, *, target: float = 1.0
) -> Array:
  """The gradient penalty that lets a critic be flatter than its bound (WGAN-LP).

  max(0, || grad D(x_hat) || - target)^2,  x_hat as in `gradient_penalty`

  The optimal critic of W_1 has norm 1 only along the transport; elsewhere it may be
  less, which the two-sided penalty punishes. Batch-coupled where the critic is.

  Source: On the regularization of Wasserstein GANs, Petzka et al., 2017,
  arXiv:1709.08894, eq. 8.

  Args:
    critic: x [B, ...] -> [B] logits.
    key: `[]` typed key of the interpolation.
    real: `[B, ...]` data.
    fake: `[B, ...]` samples, paired with the data by position.
    target: the bound, in logits per unit of x.

  Returns:
    `[B]` in (logits per unit of x)^2.

  Raises:
    ValueError: `real` and `fake` differ in shape, or the critic's output is not
      [B].
  """
  norm = _gradient_norm(critic, _interpolate(key, real, fake))
  return jnp.square(jax.nn.relu(norm - target))


def zero_centered_gradient_penalty(
  critic: Critic, key: Array, real: Array, fake: Array
) -> Array:
  """The squared gradient norm between data and samples.

  || grad D(x_hat) ||^2,  x_hat as in `gradient_penalty`

  Batch-coupled where the critic is.

  Source: Improving Generalization and Stability of Generative Adversarial Networks,
  Thanh-Tung et al., 2019, arXiv:1902.03984.

  Args:
    critic: x [B, ...] -> [B] logits.
    key: `[]` typed key of the interpolation.
    real: `[B, ...]` data.
    fake: `[B, ...]` samples, paired with the data by position.

  Returns:
    `[B]` in (logits per unit of x)^2.

  Raises:
    ValueError: `real` and `fake` differ in shape, or the critic's output is not
      [B].
  """
  return _squared_gradient_norm(critic, _interpolate(key, real, fake))


def dragan(critic: Critic, key: Array, real: Array, *, scale: float) -> Array:
  """The two-sided gradient penalty of DRAGAN, in a neighborhood of the data.

  (|| grad D(x + delta) || - 1)^2,  delta ~ N(0, scale^2 I)

  The paper writes the covariance as c I: scale = sqrt(c). The authors' published
  code does something else: it adds noise that is uniform on [0, 1), never
  negative, times half the standard deviation of the whole batch, and then moves
  each example a uniform fraction of the way there. Batch-coupled where the
  critic is.

  Source: On Convergence and Stability of GANs, Kodali et al., 2017,
  arXiv:1705.07215.

  Args:
    critic: x [B, ...] -> [B] logits.
    key: `[]` typed key of the perturbation.
    real: `[B, ...]` data.
    scale: standard deviation of the perturbation, in the unit of `real`.

  Returns:
    `[B]` in (logits per unit of x)^2.

  Raises:
    ValueError: the critic's output is not [B].
  """
  (real,) = shapes.floats(real=real)
  # The paper's Gaussian, not the published code's one-sided uniform noise.
  delta = scale * jax.random.normal(key, real.shape, real.dtype)
  return jnp.square(_gradient_norm(critic, real + delta) - 1.0)


def r1(critic: Critic, real: Array) -> Array:
  """The squared gradient norm on data.

  || grad D(x) ||^2

  The paper's weight gamma / 2, half included, is the caller's. Batch-coupled
  where the critic is.

  Source: Which Training Methods for GANs do actually Converge?, Mescheder et
  al., 2018, arXiv:1801.04406.

  Args:
    critic: x [B, ...] -> [B] logits.
    real: `[B, ...]` data.

  Returns:
    `[B]` in (logits per unit of x)^2.

  Raises:
    ValueError: the critic's output is not [B].
  """
  return _squared_gradient_norm(critic, real)


def r2(critic: Critic, fake: Array) -> Array:
  """The squared gradient norm on samples.

  || grad D(G(z)) ||^2

  The paper's weight gamma / 2, half included, is the caller's. Batch-coupled
  where the critic is.

  Source: Which Training Methods for GANs do actually Converge?, Mescheder et
  al., 2018, arXiv:1801.04406.

  Args:
    critic: x [B, ...] -> [B] logits.
    fake: `[B, ...]` samples.

  Returns:
    `[B]` in (logits per unit of x)^2.

  Raises:
    ValueError: the critic's output is not [B].
  """
  return r1(critic, fake)


def r1_r2(critic: Critic, real: Array, fake: Array) -> Array:
  """Both squared gradient norms, as R3GAN adds them to the relativistic game.

  || grad D(x) ||^2 + || grad D(G(z)) ||^2

  With the weight gamma / 2, half included, which is the caller's. Batch-coupled
  where the critic is.

  Source: The GAN is dead; long live the GAN! A Modern GAN Baseline, Huang et al.,
  2025, arXiv:2501.05441, eq. 5.

  Args:
    critic: x [B, ...] -> [B] logits.
    real: `[B, ...]` data.
    fake: `[B, ...]` samples.

  Returns:
    `[B]` in (logits per unit of x)^2.

  Raises:
    ValueError: `real` and `fake` differ in shape, or the critic's output is not
      [B].
  """
  chex.assert_equal_shape(
    [real, fake],
    custom_message='real and fake must both be [B, ...] of one shape',
    exception_type=ValueError,
  )
  return r1(critic, real) + r2(critic, fake)
