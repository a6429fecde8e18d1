"""Mistakes found in public code: a check that ours passes and the mistake does not.

Each row is a check against a closed form, what we do, and the same done as in some
well-known repository. Mistakes in the unrolled gradient are in unroll_test.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gm_jax.data import toy
from gm_jax.losses import adversarial, discrepancy, divergence, f_divergence, penalties
from gm_jax.losses import mutual_information as mi

LN10 = math.log(10.0)
close = np.allclose


def _penalty_from(draw, target=1.0, through=lambda logits: logits):
  """A gradient penalty at fake + epsilon (real - fake), epsilon drawn by `draw`."""

  def penalty(critic, key, real, fake):
    x = fake + draw(key, real) * (real - fake)
    slope = jax.grad(lambda x: through(critic(x)).sum())(x)
    return jnp.square(jnp.sqrt(jnp.square(slope).sum(axis=1)) - target)

  return penalty


def _uniform(key, real):
  return jax.random.uniform(key, (len(real), 1), real.dtype)


def penalty_of_a_line(penalty):
  """(|w| - 1)^2 for the critic <w, x>, wherever it is taken."""
  w, ones = jnp.array([1.2, -1.6, 1.5]), jnp.ones((4, 3))
  value = penalty(lambda x: x @ w, jax.random.key(0), ones, -ones)
  return close(value, (2.5 - 1) ** 2)


def penalty_of_a_bowl(penalty):
  """E (sqrt 2 e - 1)^2 = 5/3 - sqrt 2 for |x|^2 / 2 between 0 and (1, 1)."""
  ones = jnp.ones((40_000, 2))
  bowl = lambda x: jnp.square(x).sum(axis=1) / 2  # noqa: E731
  value = penalty(bowl, jax.random.key(0), ones, 0 * ones)
  return close(value.mean(), 5 / 3 - math.sqrt(2), atol=0.01)


def penalty_of_a_flat_critic_trains(penalty):
  """The derivative in the critic's parameters is finite where its gradient is 0."""
  ones = jnp.ones((4, 3))

  def loss(w):
    return penalty(lambda x: x @ w, jax.random.key(0), ones, -ones).mean()

  return bool(jnp.isfinite(jax.grad(loss)(jnp.zeros(3))).all())


def penalty_moves_the_critic(penalty):
  """d (|w| - 1)^2 / dw = 2 (|w| - 1) w / |w|."""
  w, ones = jnp.array([3.0, 4.0]), jnp.ones((4, 2))

  def loss(w):
    return penalty(lambda x: x @ w, jax.random.key(0), ones, -ones).mean()

  return close(jax.grad(loss)(w), 2 * 4 * w / 5)


def is_the_supremum(conjugate, f, at):
  """sup over u >= 0 of u t - f(u), on a fine grid, beside the formula."""
  u = np.concatenate([[1e-12], np.geomspace(1e-8, 1e4, 400_001)])
  found = [np.max(u * t - f(u)) for t in at]
  return close(conjugate(jnp.array(at)), found, rtol=1e-6, atol=1e-6)


def conjugate_of(name, at):
  record = getattr(f_divergence, name)

  def check(conjugate):
    return is_the_supremum(conjugate, lambda u: np.asarray(record.f(u)), at)

  return check


def rises_to_data(activation):
  """A larger output means more like data."""
  v = jnp.linspace(-3.0, 3.0, 13)
  return bool((jnp.diff(activation(v)) > 0).all())


def is_no_more_than_total_variation(bound):
  """E_p T - E_q f*(T) <= TV = 1 for disjoint p and q, where the critic is sure."""
  return float(bound(jnp.array([3.0]), jnp.array([-3.0]))[0]) <= 1.0 + 1e-6


def _bound(divergence):
  return lambda r, f: -f_divergence.f_gan(divergence).discriminator(r, f)


def bound_of_a_sure_q_is_ln_10(bound):
  """Of ten codes each known for sure: I(c; x) = H(c) = ln 10."""
  return close(bound(1e3 * jnp.eye(10), jnp.arange(10)).mean(), LN10)


def _as_loss(bound):
  """What a generator minimizes falls as Q learns the code."""
  return lambda logits, code: -bound(logits, code).mean()


def falls_as_q_learns(loss):
  sure, code = 5.0 * jnp.eye(10), jnp.arange(10)
  return float(loss(sure, code)) < float(loss(0.1 * sure, code))


def log_density_of_gaussian_code(bound):
  """ln q(c | x) + H(c) against scipy's density, H(N(0, 1)) = ln(2 pi e) / 2."""
  mean, std, code = 0.3, 0.4, 1.1
  expected = stats.norm(mean, std).logpdf(code) + math.log(2 * math.pi * math.e) / 2
  ours = bound(*(jnp.full((1, 1), v) for v in (mean, std, code)))
  return close(ours, expected)


def means_reach_any_code(bound):
  """A Q that knows two codes, -0.8 and 0.9, to 0.1 has ln(1 / 0.1) + 1/2 for each."""
  code = jnp.array([[-0.8, 0.9]])
  return close(bound(code, 0.1 * jnp.ones_like(code), code), 2 * math.log(10) + 1)


def entropy_of_uniform_code_is_ln_2(bound):
  """Of U(-1, 1), what is left once ln q(c | x) is taken away."""
  code = jnp.linspace(-0.99, 0.99, 4001)[:, None]
  value = bound(jnp.zeros_like(code), jnp.ones_like(code), code)
  log_q = stats.norm(0, 1).logpdf(np.asarray(code))[:, 0]
  return close((value - log_q).mean(), math.log(2))


def width_is_a_standard_deviation(make):
  """k = exp(-1/2) at a distance of one width."""
  x, y = jnp.zeros((1, 1)), jnp.full((1, 1), 3.0)
  return close(make(3.0)(x, y), math.exp(-0.5))


def _as_variance(width):
  return lambda x, y: jnp.exp(-discrepancy.squared_distances(x, y) / (2 * width))


def loss_of_the_undecided_is_2_ln_2(discriminator):
  return close(discriminator(jnp.zeros(3), jnp.zeros(3)), 2 * math.log(2))


def survives_sure_logits(discriminator):
  sure = jnp.full(1, 1e4)
  value, slope = jax.value_and_grad(lambda r: discriminator(r, -r).sum())(-sure)
  return close(value, 2e4) and close(slope, -2.0)


def has_eight_modes(means):
  return len(np.unique(np.round(np.asarray(means), 6), axis=0)) == 8


def _ring_with_both_ends():
  angle = np.linspace(0, 2 * np.pi, 8)
  return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def jsd_of_disjoint_is_ln_2(jsd):
  return close(jsd(jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])), math.log(2))


_GP = penalties.gradient_penalty
_SIGMOID = lambda r, f: -jnp.log(jax.nn.sigmoid(r)) - jnp.log(1 - jax.nn.sigmoid(f))  # noqa: E731
MISTAKES = {
  'WGAN-GP: a fraction a pixel': (
    penalty_of_a_bowl,
    _GP,
    _penalty_from(lambda key, real: jax.random.uniform(key, real.shape)),
  ),
  'WGAN-GP: a normal fraction': (
    penalty_of_a_bowl,
    _GP,
    _penalty_from(lambda key, real: jax.random.normal(key, (len(real), 1))),
  ),
  'WGAN-GP: no minus one': (penalty_of_a_line, _GP, _penalty_from(_uniform, 0.0)),
  'WGAN-GP: a sigmoid in it': (
    penalty_of_a_line,
    _GP,
    _penalty_from(_uniform, through=jax.nn.sigmoid),
  ),
  'WGAN-GP: NaN by the root': (
    penalty_of_a_flat_critic_trains,
    _GP,
    _penalty_from(_uniform),
  ),
  'WGAN-GP: no gradient of it': (
    penalty_moves_the_critic,
    _GP,
    lambda *args: jax.lax.stop_gradient(_GP(*args)),
  ),
  'f-GAN: the conjugate of the raw output': (
    is_no_more_than_total_variation,
    _bound(f_divergence.TOTAL_VARIATION),
    lambda r, f: f_divergence.TOTAL_VARIATION.activation(r) - f,
  ),
  'f-GAN: Jensen-Shannon with the conjugate of GAN': (
    conjugate_of('JENSEN_SHANNON', [-2.0, -0.5, 0.3]),
    f_divergence.JENSEN_SHANNON.conjugate,
    f_divergence.GAN.conjugate,
  ),
  'f-GAN: Hellinger upside down': (
    rises_to_data,
    f_divergence.SQUARED_HELLINGER.activation,
    lambda v: 1.0 - jnp.exp(v),
  ),
  'f-GAN: Neyman upside down': (
    rises_to_data,
    f_divergence.NEYMAN.activation,
    lambda v: 1.0 - jnp.exp(v),
  ),
  'f-GAN: reverse KL without its logarithm': (
    conjugate_of('REVERSE_KL', [-3.0, -1.5, -0.2]),
    f_divergence.REVERSE_KL.conjugate,
    lambda t: -1.0 - t,
  ),
  'f-GAN: Pearson on all of R': (
    conjugate_of('PEARSON', [-5.0, -3.0, 0.5]),
    f_divergence.PEARSON.conjugate,
    lambda t: t**2 / 4 + t,
  ),
  'f-GAN: reverse KL upside down': (
    rises_to_data,
    f_divergence.REVERSE_KL.activation,
    lambda v: -jnp.exp(v),
  ),
  'InfoGAN: a softmax before the cross entropy': (
    bound_of_a_sure_q_is_ln_10,
    mi.categorical,
    lambda logits, code: mi.categorical(jax.nn.softmax(logits), code),
  ),
  'InfoGAN: the entropy of the drawn code': (
    bound_of_a_sure_q_is_ln_10,
    mi.categorical,
    lambda logits, code: mi.categorical(logits, code) - LN10,
  ),
  'InfoGAN: the sign of the bound': (
    falls_as_q_learns,
    _as_loss(mi.categorical),
    lambda logits, code: mi.categorical(logits, code).mean(),
  ),
  'InfoGAN: a softmax over continuous codes': (
    means_reach_any_code,
    mi.gaussian,
    lambda mean, std, code: mi.gaussian(jax.nn.softmax(mean), std, code),
  ),
  'InfoGAN: a Gaussian without its half': (
    log_density_of_gaussian_code,
    mi.gaussian,
    lambda mean, std, code: (
      mi.gaussian(mean, std, code) - (jnp.square((code - mean) / std) / 2).sum(axis=-1)
    ),
  ),
  'InfoGAN: the entropy of N(0, 1) for a uniform code': (
    entropy_of_uniform_code_is_ln_2,
    mi.uniform,
    lambda mean, std, code: (
      mi.uniform(mean, std, code) + (math.log(2 * math.pi) / 2 + 1 / 6 - math.log(2))
    ),
  ),
  'GMMN: a variance for a standard deviation': (
    width_is_a_standard_deviation,
    lambda width: discrepancy.gaussian(std=width),
    _as_variance,
  ),
  'GAN: the mean of two halves': (
    loss_of_the_undecided_is_2_ln_2,
    adversarial.MINIMAX.discriminator,
    lambda r, f: adversarial.MINIMAX.discriminator(r, f) / 2,
  ),
  'GAN: logarithms of a sigmoid': (
    survives_sure_logits,
    adversarial.MINIMAX.discriminator,
    _SIGMOID,
  ),
  'GAN: 2 JSD taken for JSD': (
    jsd_of_disjoint_is_ln_2,
    divergence.jensen_shannon,
    lambda p, q: f_divergence.evaluate(f_divergence.JENSEN_SHANNON, p, q),
  ),
  'Unrolled GAN: a ring with both ends': (
    has_eight_modes,
    toy.ring().means,
    _ring_with_both_ends(),
  ),
}


@pytest.mark.parametrize('name', MISTAKES)
def test_ours_is_right_and_the_mistake_is_seen(name):
  check, ours, mistaken = MISTAKES[name]
  assert check(ours)
  assert not check(mistaken)


def test_the_number_pi_is_no_weight():
  with pytest.raises(ValueError, match='pi'):  # np.pi for the mixture's weight
    f_divergence.weighted_jensen_shannon(math.pi)


def test_order_of_interpolation_does_not_matter():
  # Asked of many repositories: epsilon and 1 - epsilon are alike.
  def swapped(critic, key, real, fake):
    return _GP(critic, key, fake, real)

  assert penalty_of_a_bowl(swapped)
