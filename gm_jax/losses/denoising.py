"""Losses of denoisers: of noise, data, velocities and scores, and of the likelihood.

  x_t = alpha x + sigma e,   e ~ N(0, I),   lambda = ln alpha^2 / sigma^2 = -gamma

Errors of what a network predicts are means over the numbers of an example, terms of the
likelihood are sums, in nats. A weighting is a function of lambda, the logarithm of the
signal to noise ratio, by which the error of the noise is multiplied; at a given x_t

  |e - e'|^2 = snr |x - x'|^2 = alpha^2 |v - v'|^2,   v = alpha e - sigma x,

the latter where alpha^2 + sigma^2 = 1. With times of density p(lambda) the likelihood
weighs errors of the noise by 1 / (2 p(lambda)): `continuous_bound` has it.

Source: Variational Diffusion Models, Kingma et al., 2021, arXiv:2107.00630;
Understanding Diffusion Objectives as the ELBO with Simple Data Augmentation, Kingma and
Gao, 2023, arXiv:2303.00848.

  >>> import jax.numpy as jnp
  >>> from gm_jax.losses import denoising
  >>> noise = jnp.ones((1, 4))
  >>> print(denoising.continuous_bound(0 * noise, noise, jnp.array([3.0])))  # 3 * 4 / 2
  [6.]
"""

import jax
import jax.numpy as jnp

from gm_jax.losses import shapes

Array = jax.Array


def squared_error(prediction: Array, target: Array) -> Array:
  """The mean of squares of an error.

  Args:
    prediction: `[B, ...]`.
    target: `[B, ...]`.

  Returns:
    `[B]`, in the square of their unit.

  Raises:
    ValueError: shapes that differ, or scalars.
  """
  squares = _squares(prediction=prediction, target=target)
  return squares.reshape(len(squares), -1).mean(axis=1)


def edm_weight(log_snr: Array, *, data_std: float) -> Array:
  """The weight that an error of the noise has in EDM, 1 + 1 / (snr d^2).

  That of the data has (sigma^2 + d^2) / (sigma d)^2 where alpha is 1.

  Source: Elucidating the Design Space of Diffusion-Based Generative Models, Karras et
  al., 2022, arXiv:2206.00364, table 1.

  Args:
    log_snr: `[...]` lambda.
    data_std: d > 0, root mean square of the data.

  Returns:
    `[...]`, at least 1.

  Raises:
    ValueError: `data_std` is not above 0.
  """
  shapes.check_positive(data_std=data_std)
  (log_snr,) = shapes.floats(log_snr=log_snr)
  return 1.0 + jnp.exp(-log_snr) / data_std**2


def min_snr_noise(log_snr: Array, *, limit: float = 5.0) -> Array:
  """The weight min(snr, limit) / snr of errors of the noise.

  Source: Efficient Diffusion Training via Min-SNR Weighting Strategy, Hang et al.,
  2023, arXiv:2303.09556, equation 8 and section 3.4, as the next two.

  Args:
    log_snr: `[...]` lambda.
    limit: > 0, of the ratio, the paper's gamma.

  Returns:
    `[...]` in [0, 1].

  Raises:
    ValueError: `limit` is not above 0.
  """
  shapes.check_positive(limit=limit)
  (log_snr,) = shapes.floats(log_snr=log_snr)
  return jnp.exp(jnp.minimum(0.0, jnp.log(limit) - log_snr))


def min_snr_data(log_snr: Array, *, limit: float = 5.0) -> Array:
  """The weight min(snr, limit) of errors of the data.

  Args:
    log_snr: `[...]` lambda.
    limit: > 0, of the ratio.

  Returns:
    `[...]` in [0, limit].

  Raises:
    ValueError: `limit` is not above 0.
  """
  shapes.check_positive(limit=limit)
  (log_snr,) = shapes.floats(log_snr=log_snr)
  return jnp.exp(jnp.minimum(log_snr, jnp.log(limit)))


def min_snr_velocity(log_snr: Array, *, limit: float = 5.0) -> Array:
  """The weight min(snr, limit) / (snr + 1) of errors of the velocity.

  Args:
    log_snr: `[...]` lambda.
    limit: > 0, of the ratio.

  Returns:
    `[...]` in [0, 1].

  Raises:
    ValueError: `limit` is not above 0.
  """
  # alpha^2 = snr / (snr + 1) times that of the noise, no infinite ratio in between.
  (log_snr,) = shapes.floats(log_snr=log_snr)
  return jax.nn.sigmoid(log_snr) * min_snr_noise(log_snr, limit=limit)


def sigmoid_weight(log_snr: Array, *, bias: float = 2.0) -> Array:
  """The weight sigmoid(b - lambda) of the likelihood's terms.

  It falls with lambda: of noise that is hardly seen errors count little.

  Source: Kingma and Gao, 2023, arXiv:2303.00848, section 5.

  Args:
    log_snr: `[...]` lambda.
    bias: b, nats.

  Returns:
    `[...]` in [0, 1], which multiplies `continuous_bound`, whose own weight is 1.
  """
  (log_snr,) = shapes.floats(log_snr=log_snr)
  return jax.nn.sigmoid(bias - log_snr)


def denoising_score_matching(score: Array, noise: Array, sigma: Array) -> Array:
  """Half the squared distance of a score from that of x_t given x.

  |s(x_t) + e / sigma|^2 / 2

  Its least expected value has the score of the noisy data, the gradient of
  log p(x_t).

  Source: A Connection Between Score Matching and Denoising Autoencoders, Vincent, 2011,
  Neural Computation 23(7), equation 11.

  Args:
    score: `[B, ...]` s at x_t = alpha x + sigma e, per unit of x.
    noise: `[B, ...]` e.
    sigma: `[B]` > 0, in the unit of x.

  Returns:
    `[B]`, a sum over the numbers of an example.

  Raises:
    ValueError: shapes that differ, or sigma that is not `[B]`.
  """
  score, noise, sigma = shapes.floats(score=score, noise=noise, sigma=sigma)
  shapes.check_equal(score=score, noise=noise)
  return 0.5 * _sum(jnp.square(score + noise / _along(score, sigma=sigma)))


def flow_matching(velocity: Array, x: Array, noise: Array) -> Array:
  """The mean squared error of the velocity e - x of a straight line from x to e.

  Source: Flow Matching for Generative Modeling, Lipman et al., 2023, arXiv:2210.02747,
  equation 23, whose sigma_min is 0 here and whose time runs from noise to data.

  Args:
    velocity: `[B, ...]` at (1 - t) x + t e.
    x: `[B, ...]` data.
    noise: `[B, ...]` e.

  Returns:
    `[B]`.

  Raises:
    ValueError: shapes that differ.
  """
  velocity, x, noise = shapes.floats(velocity=velocity, x=x, noise=noise)
  shapes.check_equal(velocity=velocity, x=x, noise=noise)
  return squared_error(velocity, noise - x)


def continuous_bound(prediction: Array, noise: Array, rate: Array) -> Array:
  """The diffusion loss of the likelihood's bound, at a uniform time in [0, 1].

  gamma'(t) |e - e'|^2 / 2

  Source: Kingma et al., 2021, arXiv:2107.00630, equation 17.

  Args:
    prediction: `[B, ...]` e', the noise as it was predicted.
    noise: `[B, ...]` e.
    rate: `[B]` gamma'(t).

  Returns:
    `[B]` nats.

  Raises:
    ValueError: shapes that differ, or a rate that is not `[B]`.
  """
  squares = _squares(prediction=prediction, noise=noise)
  return 0.5 * _sum(_along(squares, rate=rate) * squares)


def discrete_bound(
  prediction: Array, noise: Array, gamma_t: Array, gamma_s: Array, *, num_steps: int
) -> Array:
  """The diffusion loss of T steps, at a uniform one of them from t to s = t - 1 / T.

  T expm1(gamma_t - gamma_s) |e - e'|^2 / 2

  T times the divergence of the model's p(x_s | x_t) from q(x_s | x_t, x).

  Source: Kingma et al., 2021, arXiv:2107.00630, equation 14.

  Args:
    prediction: `[B, ...]` e', the noise as it was predicted from x_t.
    noise: `[B, ...]` e.
    gamma_t: `[B]`.
    gamma_s: `[B]`, below it.
    num_steps: T.

  Returns:
    `[B]` nats.

  Raises:
    ValueError: shapes that differ, or a gamma that is not `[B]`.
  """
  squares = _squares(prediction=prediction, noise=noise)
  gamma_t = _along(squares, gamma_t=gamma_t)
  gamma_s = _along(squares, gamma_s=gamma_s)
  return 0.5 * num_steps * _sum(jnp.expm1(gamma_t - gamma_s) * squares)


def prior_kl(x: Array, gamma: Array) -> Array:
  """How far x at the last time is from noise, KL(q(x_1 | x) || N(0, I)).

  sum_d [alpha^2 x_d^2 + sigma^2 - 1 - ln sigma^2] / 2,   sigma^2 = sigmoid(gamma)

  Source: Kingma et al., 2021, arXiv:2107.00630, equation 12.

  Args:
    x: `[B, ...]` data.
    gamma: `[]` at the last time.

  Returns:
    `[B]` nats, at least 0.

  Raises:
    ValueError: x has no axis of examples, or gamma is not `[]`.
  """
  x, gamma = shapes.floats(x=x, gamma=gamma)
  shapes.check_equal(x=x)
  if gamma.ndim:
    raise ValueError(f'gamma must be [], got {gamma.shape}')
  # sigma^2 - 1 is -alpha^2, without cancellation.
  each = jax.nn.sigmoid(-gamma) * (jnp.square(x) - 1.0) - jax.nn.log_sigmoid(gamma)
  return 0.5 * _sum(each)


def _squares(**values: Array) -> Array:
  first, second = shapes.floats(**values)
  shapes.check_equal(**values)
  return jnp.square(first - second)


def _along(x: Array, **value: Array) -> Array:
  """A number an example, `[B]`, as it multiplies x `[B, ...]`."""
  ((name, number),) = value.items()
  (number,) = shapes.floats(**value)
  if number.shape != x.shape[:1]:
    raise ValueError(f'{name} of {x.shape} must be [{len(x)}], got {number.shape}')
  return number.reshape(-1, *(1,) * (x.ndim - 1))


def _sum(each: Array) -> Array:
  return each.reshape(len(each), -1).sum(axis=1)
