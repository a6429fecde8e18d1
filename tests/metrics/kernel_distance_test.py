"""The chunked MMD is the direct one, and needs no N x N array; the KID by subsets."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax.losses import discrepancy
from gm_jax.metrics import kernel_distance

KERNEL = discrepancy.gaussian(std=np.sqrt(2))


def _samples(num, mean, std, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.array(mean + std * rng.normal(size=(num, 3)), jnp.float32)


@functools.cache
def _direct(kernel):
  return jax.jit(functools.partial(discrepancy.mmd2_unbiased, kernel))


RATIONAL = discrepancy.rational_quadratic(alphas=(0.2, 1.0))


@pytest.mark.parametrize(
  ('kernel', 'chunk'),
  [(KERNEL, 1), (RATIONAL, 7), (KERNEL, 16), (RATIONAL, 37), (KERNEL, 1024)],
)
def test_chunked_is_direct(kernel, chunk):
  # 37 and 23 rows: whole chunks, a padded last one, and one chunk larger than all.
  x, y = _samples(37, 0.0, 1.0), _samples(23, 0.7, 0.6, seed=1)
  chunked = jax.jit(functools.partial(kernel_distance.mmd2_unbiased, chunk=chunk),
                    static_argnums=0)  # fmt: skip
  np.testing.assert_allclose(chunked(kernel, x, y), _direct(kernel)(x, y), atol=5e-7)


def test_value_on_gaussians_is_the_closed_form():
  # d = 3, l^2 = 2, means 0 and 0.7, standard deviations 1 and 0.6: 0.246050.
  x, y = _samples(4000, 0.0, 1.0), _samples(4000, 0.7, 0.6, seed=1)
  chunked = jax.jit(functools.partial(kernel_distance.mmd2_unbiased, KERNEL, chunk=500))
  value = chunked(x, y)
  # Standard error of the estimate from 20 blocks of 200, scaled by 1/sqrt(20).
  blocks = jax.jit(jax.vmap(functools.partial(discrepancy.mmd2_unbiased, KERNEL)))(
    x.reshape(20, 200, 3), y.reshape(20, 200, 3)
  )
  error = float(blocks.std()) / np.sqrt(20)
  assert error < 0.01
  assert abs(float(value) - 0.246050) < 3 * error


def test_no_array_has_more_than_chunk_rows_of_the_gram_matrix():
  num, chunk = 50_000, 128
  x = jax.ShapeDtypeStruct((num, 2), jnp.float32)
  function = functools.partial(kernel_distance.mmd2_unbiased, KERNEL, chunk=chunk)
  compiled = jax.jit(function).lower(x, x).compile()
  # Five float32 copies of one strip of rows; the whole would be 10 GB.
  assert compiled.memory_analysis().temp_size_in_bytes < 5 * 4 * chunk * num


def test_median_bandwidth_is_the_median_over_pairs():
  x = np.array(_samples(40, 1.0, 2.0), float)
  distances = [np.linalg.norm(x[i] - x[j]) for i in range(len(x)) for j in range(i)]
  np.testing.assert_allclose(
    jax.jit(kernel_distance.median_bandwidth)(jnp.array(x, jnp.float32)),
    np.median(distances),
    rtol=1e-5,
  )


def test_median_bandwidth_covers_sorted_data():
  # Ten far clusters one after the other: the first rows alone see a single one.
  x = np.concatenate([_samples(300, 50.0 * k, 1.0, seed=k) for k in range(10)])
  width = jax.jit(functools.partial(kernel_distance.median_bandwidth, max_points=100))(
    jnp.asarray(x)
  )
  width = float(width)
  # Median gap among 10 equally spaced clusters is 3 spacings.
  np.testing.assert_allclose(width, 3 * 50 * np.sqrt(3), rtol=0.02)
  discrepancy.gaussian(std=width)


def test_bad_arguments_raise():
  x = _samples(4, 0.0, 1.0)
  with pytest.raises(ValueError, match='two rows'):
    kernel_distance.mmd2_unbiased(KERNEL, x, x[:1])
  with pytest.raises(ValueError, match='chunk'):
    kernel_distance.mmd2_unbiased(KERNEL, x, x, chunk=0)
  with pytest.raises(ValueError, match='max_points'):
    kernel_distance.median_bandwidth(x, max_points=1)


def test_numpy_arrays_serve_as_well():
  x, y = np.asarray(_samples(9, 0.0, 1.0)), np.asarray(_samples(7, 0.7, 0.6, seed=1))
  # A compiled function that takes nothing: x and y stay NumPy's inside.
  found = jax.jit(lambda: kernel_distance.mmd2_unbiased(KERNEL, x, y, chunk=4))()
  np.testing.assert_allclose(found, _direct(KERNEL)(x, y), atol=5e-7)


@functools.partial(jax.jit, static_argnames=('num_subsets', 'subset_size'))
def kid(key, real, fake, num_subsets=20, subset_size=50):
  return kernel_distance.kernel_distance(
    key, real, fake, num_subsets=num_subsets, subset_size=subset_size
  )


def test_one_subset_of_all_is_the_unbiased_estimate():
  x, y = _samples(50, 0.0, 1.0), _samples(50, 0.7, 0.6, seed=1)
  expected = discrepancy.mmd2_unbiased(discrepancy.polynomial(), x, y)
  mean, error = kid(jax.random.key(0), x, y, num_subsets=1)
  np.testing.assert_allclose(mean, expected, rtol=1e-5)
  assert np.isnan(error)  # of one subset it is not known


def test_the_kernel_distance_of_gaussians_is_the_closed_form():
  # x ~ N(0, 1) and y ~ N(m, s^2) on the line: the cubic kernel's MMD^2 is the sum of
  # binomial coefficients times squared differences of moments,
  # 3 (m)^2 + 3 (m^2 + s^2 - 1)^2 + (m^3 + 3 m s^2)^2.
  m, s = 0.5, 0.8
  gaps = m, m**2 + s**2 - 1, m**3 + 3 * m * s**2
  expected = np.dot([3, 3, 1], np.square(gaps))

  @jax.jit
  def repeated(keys, m, s):
    def one(key):
      data_key, key = jax.random.split(key)
      x, y = jax.random.normal(data_key, (2, 60, 1))
      return kid(key, x, m + s * y, num_subsets=9)

    return jax.lax.map(one, keys)

  keys = jax.random.split(jax.random.key(0), 200)
  (equal, _), (other, errors) = repeated(keys, 0.0, 1.0), repeated(keys, m, s)
  for values, exact in ((equal, 0.0), (other, expected)):
    spread = values.std(ddof=1) / 200**0.5
    assert spread < 0.2
    assert abs(values.mean() - exact) < 3 * spread
  # Subsets share rows: over new data the spread is larger than the error says.
  assert other.std() > 1.5 * errors.mean()


def test_subsets_are_without_replacement_and_of_all_rows():
  # A mean over subsets with each pair as often as any other is that of all pairs.
  x, y = _samples(20, 0.0, 1.0), _samples(20, 0.7, 0.6, seed=1)
  exact = discrepancy.mmd2_unbiased(discrepancy.polynomial(), x, y)
  mean, error = kid(jax.random.key(1), x, y, num_subsets=1000, subset_size=10)
  assert abs(mean - exact) < 3 * error
  copies = jnp.tile(x[:1], (20, 1))
  mean, _ = kid(jax.random.key(1), copies, copies, num_subsets=1000, subset_size=10)
  np.testing.assert_allclose(mean, 0.0, atol=1e-5)


def test_another_kernel_serves():
  x, y = _samples(20, 0.0, 1.0), _samples(20, 0.7, 0.6, seed=1)
  options = {'num_subsets': 1, 'subset_size': 20, 'kernel': KERNEL}
  mean, _ = kernel_distance.kernel_distance(jax.random.key(0), x, y, **options)
  np.testing.assert_allclose(mean, _direct(KERNEL)(x, y), atol=5e-7)


def test_torch_fidelity_gives_the_same():
  reason = "not installed: 'gm_jax[bench]'"
  torch = pytest.importorskip('torch', reason=reason)
  peer = pytest.importorskip('torch_fidelity.metric_kid', reason=reason)
  x, y = _samples(50, 0.0, 1.0), _samples(50, 0.7, 0.6, seed=1)
  options = {
    'kid_subsets': 1, 'kid_subset_size': 50, 'kid_kernel': 'poly',
    'kid_kernel_poly_degree': 3, 'kid_kernel_poly_gamma': None,
    'kid_kernel_poly_coef0': 1, 'rng_seed': 0, 'verbose': False,
  }  # fmt: skip
  sets = (torch.tensor(np.asarray(rows, float)) for rows in (x, y))
  expected = peer.kid_features_to_metric(*sets, **options)
  mean, _ = kid(jax.random.key(0), x, y, num_subsets=1)
  np.testing.assert_allclose(
    mean, expected['kernel_inception_distance_mean'], rtol=1e-4
  )


def test_bad_arguments_of_the_kernel_distance_raise():
  x, key = _samples(40, 0.0, 1.0), jax.random.key(0)
  for words, arrays, options in (
    ('subset_size must be from 2 to 9', (x, x[:9]), {'subset_size': 10}),
    ('subset_size must be from 2 to 40', (x, x), {}),
    ('subset_size must be from 2', (x, x), {'subset_size': 1}),
    ('num_subsets', (x, x), {'subset_size': 10, 'num_subsets': 0}),
    ('same D', (x, x[:, :2]), {}),
    ('fake must be finite', (x, x.at[3, 1].set(jnp.nan)), {}),
  ):
    with pytest.raises(ValueError, match=words):
      kernel_distance.kernel_distance(key, *arrays, **options)
  assert np.isnan(kid(key, jnp.tile(x, (2, 1)), jnp.full((50, 3), jnp.nan))[0])
