"""The chunked MMD is the direct one, and needs no N x N array."""

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
