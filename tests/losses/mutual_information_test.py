"""Bounds of information against tables, Gaussians and the slips of public code."""

import doctest
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.losses import mutual_information as mi

COUNTS = np.array([[5, 1, 0], [1, 2, 1], [0, 1, 5]])  # of sixteen
JOINT = COUNTS / COUNTS.sum()
ROWS, COLUMNS = JOINT.sum(1), JOINT.sum(0)
TRUE = sum(
  JOINT[i, j] * math.log(JOINT[i, j] / (ROWS[i] * COLUMNS[j]))
  for i, j in np.ndindex(3, 3)
  if JOINT[i, j]
)


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


def drawn(counts):
  """Every pair (i, j), as often as the counts say."""
  return np.array([p for p in np.ndindex(3, 3) for _ in range(counts[p])])


TOGETHER = drawn(COUNTS)
APART = drawn(np.outer(COUNTS.sum(1), COUNTS.sum(0)))


def test_information_of_a_table():
  np.testing.assert_allclose(mi.of_table(jnp.array(JOINT)), TRUE)
  independent = np.outer(ROWS, COLUMNS)
  np.testing.assert_allclose(mi.of_table(jnp.array(independent)), 0, atol=1e-12)
  sure = np.eye(4) / 4
  np.testing.assert_allclose(mi.of_table(jnp.array(sure)), math.log(4))
  with pytest.raises(ValueError, match='joint'):
    mi.of_table(jnp.ones(3))


def test_variational_bound_is_tight_at_the_posterior_and_below_elsewhere():
  x, c = TOGETHER.T
  with np.errstate(divide='ignore'):
    posterior = np.log(JOINT / ROWS[:, None])
  exact = mi.categorical(
    jnp.array(posterior)[x], jnp.array(c), prior=jnp.array(COLUMNS)
  )
  np.testing.assert_allclose(exact.mean(), TRUE)
  rng = np.random.default_rng(0)
  for _ in range(5):
    other = jnp.array(rng.normal(size=(3, 3)))[x]
    assert mi.categorical(other, jnp.array(c), prior=jnp.array(COLUMNS)).mean() < TRUE


def test_bound_of_ten_classes_reaches_ln_10_and_a_softmax_before_it_cannot():
  code = jnp.arange(10)
  sure = 1e3 * jnp.eye(10)
  np.testing.assert_allclose(mi.categorical(sure, code).mean(), math.log(10))
  softmaxed = mi.categorical(jax.nn.softmax(sure), code).mean()
  cap = math.log(10) - math.log(1 + 9 / math.e)
  np.testing.assert_allclose(softmaxed, cap)  # the public slip
  assert abs(cap - 0.841) < 1e-3
  # Entropy of the one-hot sample, 0, in place of the prior's: never above 0.
  assert (mi.categorical(sure, code) - math.log(10)).max() <= 0
  with pytest.raises(ValueError, match=r'\[B\]'):
    mi.categorical(sure, jnp.eye(10))  # one-hot
  with pytest.raises(ValueError, match='prior'):
    mi.categorical(sure, code, prior=jnp.ones(9) / 9)


@pytest.mark.parametrize('rho', [0.0, 0.5, 0.95])
def test_gaussian_code_reaches_minus_half_log_one_minus_rho_squared(rho):
  keys = jax.random.split(jax.random.key(0))
  c = 2.0 * jax.random.normal(keys[0], (200_000, 1))
  x = rho * c / 2 + math.sqrt(1 - rho**2) * jax.random.normal(keys[1], c.shape)
  mean, std = 2 * rho * x, jnp.full_like(x, 2 * math.sqrt(1 - rho**2))
  bound = mi.gaussian(mean, std, c, code_std=2.0)
  true = -0.5 * math.log(1 - rho**2)
  assert abs(bound.mean() - true) < 4 * bound.std() / math.sqrt(200_000) + 1e-9
  worse = mi.gaussian(0.8 * mean + 0.1, 1.1 * std, c, code_std=2.0)
  assert worse.mean() < true


def test_uniform_code_has_its_own_entropy():
  # c ~ U(-1, 1) seen through x = c: a Q of std s gives ln 2 - ln s - ln(2 pi) / 2.
  c = jax.random.uniform(jax.random.key(0), (1000, 2), minval=-1.0)
  for s in (1.0, 0.01):
    bound = mi.uniform(c, jnp.full_like(c, s), c)
    expected = 2 * (math.log(2) - math.log(s) - 0.5 * math.log(2 * math.pi))
    np.testing.assert_allclose(bound, expected)
  # With std 1 no Q is above -0.2258 a code, however well it knows the code.
  np.testing.assert_allclose(
    mi.uniform(c, jnp.ones_like(c), c)[0] / 2, -0.2258, atol=1e-4
  )
  # The public code takes the entropy of N(0, 1) for it: .5 ln 2 pi + 1/6, not ln 2.
  official = 0.5 * math.log(2 * math.pi) + 1 / 6
  np.testing.assert_allclose(official, 1.0856, atol=1e-4)
  assert abs(official - math.log(2)) > 0.39
  blind = mi.uniform(jnp.zeros_like(c), jnp.full_like(c, 1 / math.sqrt(3)), c)
  assert -0.4 < blind.mean() < 0  # knows nothing: 0 would be exact


def critic_scores(scores):
  return jnp.array(scores[tuple(TOGETHER.T)]), jnp.array(scores[tuple(APART.T)])


def test_critic_bounds_are_tight_at_the_log_ratio():
  with np.errstate(divide='ignore'):
    ratio = np.log(JOINT / np.outer(ROWS, COLUMNS))
  best = np.where(np.isfinite(ratio), ratio, -200.0)
  joint, apart = critic_scores(best)
  np.testing.assert_allclose(mi.donsker_varadhan(joint, apart), TRUE)
  np.testing.assert_allclose(mi.donsker_varadhan(joint + 7, apart + 7), TRUE)

  def mean_nwj(joint, apart):  # the two are of different numbers here
    longer = mi.nwj(jnp.resize(joint, apart.shape), apart)
    np.testing.assert_allclose(len(apart) % len(joint), 0)
    return longer.mean()

  np.testing.assert_allclose(mean_nwj(joint + 1, apart + 1), TRUE)
  jsd_joint = np.where(JOINT, JOINT, 1)
  product = np.outer(ROWS, COLUMNS)
  mixture = (JOINT + product) / 2
  twice_jsd = (JOINT * np.log(jsd_joint / mixture)).sum() + (
    product * np.log(product / mixture)
  ).sum()
  bound = mi.jensen_shannon(jnp.resize(joint, apart.shape), apart).mean()
  np.testing.assert_allclose(bound, twice_jsd)
  rng = np.random.default_rng(0)
  for _ in range(10):
    joint, apart = critic_scores(best + rng.normal(size=(3, 3)))
    donsker = mi.donsker_varadhan(joint, apart)
    assert donsker < TRUE
    assert mean_nwj(joint, apart) <= donsker + 1e-12  # never tighter
    other = mi.jensen_shannon(jnp.resize(joint, apart.shape), apart).mean()
    assert other < twice_jsd


@pytest.mark.slow
def test_info_nce_never_passes_ln_of_the_batch_and_nears_the_information():
  rho, size = 0.8, 64
  true = -0.5 * math.log(1 - rho**2)
  keys = jax.random.split(jax.random.key(0))
  x = jax.random.normal(keys[0], (4000, size))
  y = rho * x + math.sqrt(1 - rho**2) * jax.random.normal(keys[1], x.shape)

  def scores(x, y):  # ln p(y | x) / p(y), up to a constant
    gap = y[None, :] - rho * x[:, None]
    return y**2 / 2 - gap**2 / (2 * (1 - rho**2))

  bound = jax.vmap(lambda x, y: mi.info_nce(scores(x, y)).mean())(x, y)
  assert true - 0.02 < bound.mean() < true + 0.002
  small = jax.vmap(lambda x, y: mi.info_nce(scores(x[:4], y[:4])).mean())(x, y)
  assert small.mean() < bound.mean()
  certain = mi.info_nce(1e4 * jnp.eye(size))
  np.testing.assert_allclose(certain, math.log(size))
  with pytest.raises(ValueError, match=r'\[B, B\]'):
    mi.info_nce(jnp.ones((3, 4)))


def test_one_by_one_is_the_batch_and_shapes_are_checked():
  rng = np.random.default_rng(0)
  joint, apart = (jnp.array(rng.normal(size=8)) for _ in range(2))
  for bound in (mi.nwj, mi.jensen_shannon):
    single = jax.vmap(lambda a, b, f=bound: f(a[None], b[None])[0])(joint, apart)
    np.testing.assert_allclose(single, bound(joint, apart))
    with pytest.raises(ValueError, match='same B'):
      bound(joint, apart[:-1])
  for wrong in itertools.product([joint[:, None]], [apart]):
    with pytest.raises(ValueError, match='one number an example'):
      mi.donsker_varadhan(*wrong)
  code = jnp.zeros((4, 2))
  with pytest.raises(ValueError, match=r'\[B, D\]'):
    mi.gaussian(code, code[:, :1], code)
  with pytest.raises(ValueError, match='code_std'):
    mi.gaussian(code, code + 1, code, code_std=0.0)
  with pytest.raises(ValueError, match='above low'):
    mi.uniform(code, code + 1, code, low=1.0, high=1.0)


def test_docstring_examples():
  with jax.enable_x64(False):
    failed, tried = doctest.testmod(mi)
  assert failed == 0 and tried
