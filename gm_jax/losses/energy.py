"""Losses of energies: of densities known up to their normalization.

  p(x) = exp(-E(x)) / Z,   grad_theta log p(x) = -grad E(x) + E_{x' ~ p} grad E(x')

Energies are `[B]`, in nats. What is drawn for a loss, negatives or noise, is a constant
of it: the caller stops gradients through samplers.

A classifier is an energy too, with logits f(x) `[B, C]`: p(x, y) = exp(f_y(x)) / Z.

Source: Training Products of Experts by Minimizing Contrastive Divergence, Hinton, 2002,
Neural Computation 14(8); Your Classifier is Secretly an Energy Based Model and You
Should Treat it Like One, Grathwohl et al., 2020, arXiv:1912.03263.

  >>> import jax.numpy as jnp
  >>> from gm_jax.losses import energy
  >>> print(energy.noise_contrastive(jnp.zeros(2), jnp.zeros((2, 1))))  # 2 ln 2
  [1.3862944 1.3862944]
"""

import math

import jax
import jax.numpy as jnp

from gm_jax.losses import shapes

Array = jax.Array


def contrastive_divergence(data_energy: Array, negative_energy: Array) -> Array:
  """A surrogate of minus log p, whose gradient is that of contrastive divergence.

  E(x) - E(x')

  Where negatives x' follow the model itself, and are constants, the gradient of its
  mean is that of -E log p. Its value is no likelihood: it is 0 in expectation where the
  model is right, and falls without limit where negatives are wrong.

  Args:
    data_energy: `[B]` nats, E of data.
    negative_energy: `[B]` nats, E of what a chain of the model has reached.

  Returns:
    `[B]` nats.

  Raises:
    ValueError: shapes that are not one `[B]`.
  """
  both = {'data_energy': data_energy, 'negative_energy': negative_energy}
  data_energy, negative_energy = shapes.floats(**both)
  shapes.check_examples(**both)
  return data_energy - negative_energy


def squared_energy(data_energy: Array, negative_energy: Array) -> Array:
  """The penalty of energies that are far from 0, which pins their constant.

  E(x)^2 + E(x')^2

  Source: Implicit Generation and Generalization in Energy-Based Models, Du and
  Mordatch, 2019, arXiv:1903.08689, whose weight is 1.

  Args:
    data_energy: `[B]` nats.
    negative_energy: `[B]` nats.

  Returns:
    `[B]` nats^2, without its weight.

  Raises:
    ValueError: shapes that are not one `[B]`.
  """
  both = {'data_energy': data_energy, 'negative_energy': negative_energy}
  data_energy, negative_energy = shapes.floats(**both)
  shapes.check_examples(**both)
  return jnp.square(data_energy) + jnp.square(negative_energy)


def noise_contrastive(data_log_ratio: Array, noise_log_ratio: Array) -> Array:
  """Noise-contrastive estimation: a classifier of data among nu draws of noise each.

  -ln sigmoid(r - ln nu) - sum_i ln sigmoid(ln nu - r_i),   r = ln p(x) - ln q(x)

  The constant of p is learned with the rest: where the expected value is least, p is
  the density of the data, normalized, wherever the noise q has mass.

  Source: Noise-contrastive estimation: A new estimation principle for unnormalized
  statistical models, Gutmann and Hyvarinen, 2010, AISTATS; for any nu the extended
  version, 2012, JMLR 13.

  Args:
    data_log_ratio: `[B]` nats, r of data.
    noise_log_ratio: `[B, nu]` nats, r of noise, nu draws a datum.

  Returns:
    `[B]` nats.

  Raises:
    ValueError: ratios that are not `[B]` and `[B, nu]`.
  """
  data_log_ratio, noise_log_ratio = shapes.floats(
    data_log_ratio=data_log_ratio, noise_log_ratio=noise_log_ratio
  )
  shapes.check_examples(data_log_ratio=data_log_ratio)
  expected = noise_log_ratio.shape[:1] == data_log_ratio.shape
  if noise_log_ratio.ndim != 2 or not expected or not noise_log_ratio.size:
    raise ValueError(
      f'noise_log_ratio must be [{len(data_log_ratio)}, nu], nu draws a datum, got'
      f' {noise_log_ratio.shape}'
    )
  odds = math.log(noise_log_ratio.shape[1])
  data = jax.nn.softplus(odds - data_log_ratio)
  return data + jax.nn.softplus(noise_log_ratio - odds).sum(axis=1)


def marginal_energy(logits: Array) -> Array:
  """The energy of x by a classifier's logits.

  E(x) = -ln sum_y exp f_y(x)

  Args:
    logits: `[B, C]` f.

  Returns:
    `[B]` nats.

  Raises:
    ValueError: logits that are not `[B, C]`.
  """
  return -jax.nn.logsumexp(_logits(logits), axis=1)


def joint_energy(logits: Array, label: Array) -> Array:
  """The energy of x and y by a classifier's logits.

  E(x, y) = -f_y(x) = E(x) - ln p(y | x),   p(y | x) = softmax(f(x))_y

  so that ln p(x, y) is ln p(y | x) + ln p(x), with one constant ln Z for both.

  Args:
    logits: `[B, C]` f.
    label: `[B]` integers y from 0 to C - 1.

  Returns:
    `[B]` nats.

  Raises:
    ValueError: logits that are not `[B, C]`, or labels that are no classes of `[B]`.
  """
  logits = _logits(logits)
  shapes.check_levels(logits.shape[1], label=label)
  label = jnp.asarray(label)
  if label.shape != logits.shape[:1]:
    raise ValueError(f'label must be [{len(logits)}], got {label.shape}')
  return -jnp.take_along_axis(logits, label[:, None].astype(jnp.int32), axis=1)[:, 0]


def _logits(logits: Array) -> Array:
  (logits,) = shapes.floats(logits=logits)
  if logits.ndim != 2 or not logits.shape[1]:
    raise ValueError(f'logits must be [B, C], got {logits.shape}')
  return logits
