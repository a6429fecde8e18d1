"""What kernel density estimates are worth: as scores of samples, and by dimension.

The pitfall. A Parzen window fitted to a model's samples, its bandwidth chosen on
validation data, has been printed as that model's log-likelihood. Here the "samples" are
real images, or k-means centroids of the training images, which are no samples of
anything; and where the true law is known, fresh draws from it.

Source: A Note on the Evaluation of Generative Models, Theis et al., 2016,
arXiv:1511.01844, section 5.
"""

import pathlib
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gm_jax import statistics
from gm_jax.data import registry
from gm_jax.methods import kde
from gm_jax.training import plots, report

STDS = (0.05, 0.07, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)
NUM = 500  # samples and centroids of the digits
LARGE = 10_000  # of MNIST, as the paper
COMPONENTS, SPREAD = 20, 0.08  # of the known law, fitted to the digits
DIMENSIONS = (1, 2, 4, 8, 16, 32, 64)
SIZES = (100, 1000, 10_000)
WINDOWS_HEADER = ('data', '"samples"', 'number', 'bandwidth', 'nats')
DIMENSION_HEADER = ('D', *(f'N = {num:,}' for num in SIZES), 'bandwidths')
RECALLED = {'training images': 243, 'k-means centroids': 313}  # the paper's, recalled


class Window(NamedTuple):
  """A Parzen window's score of held-out images."""

  data: str
  samples: str
  num: int
  std: float
  nats: float
  error: float


def window(data: str, samples: str, points, validation, test, stds=STDS) -> Window:
  """The score by the usual protocol: bandwidth on validation, mean on test."""
  points, validation, test = (jnp.asarray(a) for a in (points, validation, test))
  std, _ = kde.bandwidth(points, validation, stds)
  nats = density(points, test, std)
  mean, error = map(float, statistics.mean_and_error(nats))
  return Window(data, samples, len(points), std, mean, error)


def density(points, x, std: float) -> np.ndarray:
  """[B] nats of a Gaussian on every point, at x [B, D]."""
  points, x = jnp.asarray(points), jnp.asarray(x)
  found = jax.jit(lambda x: kde.log_density(points, x, std, len(points)))(x)
  return np.asarray(found)


def centroids(x: np.ndarray, num: int, *, iterations: int = 100) -> np.ndarray:
  """k-means of x [N, D] by scikit-learn, from `num` of its rows."""
  from sklearn import cluster  # heavy

  model = cluster.KMeans(
    num, init='random', n_init=1, max_iter=iterations, random_state=0, tol=0
  )
  return model.fit(x).cluster_centers_.astype(np.float32)


def flat(data, split: str, num: int | None = None) -> np.ndarray:
  """Images [N, D] in [0, 1]."""
  x = data.arrays(split, num)['x'].astype(np.float32) / (data.spec.num_levels - 1)
  return x.reshape(len(x), -1)


class Known(NamedTuple):
  """Even Gaussians around images: a law near the digits whose density is known."""

  means: jax.Array  # [K, D]

  def draw(self, key: jax.Array, num: int) -> jax.Array:
    """[num, D]."""
    keys = jax.random.split(key)
    mean = self.means[jax.random.randint(keys[0], (num,), 0, len(self.means))]
    return mean + SPREAD * jax.random.normal(keys[1], mean.shape)

  def log_prob(self, x: jax.Array) -> jax.Array:
    """[B] nats: a kernel density of the means is this very law."""
    return kde.log_density(self.means, x, SPREAD, len(self.means))


def _images(data, num: int, held: int, iterations: int) -> list[Window]:
  train, test = flat(data, 'train'), flat(data, 'test', held)
  validation = flat(data, 'validation', 1000)
  shuffled = np.random.default_rng(0).permutation(len(train))
  some = train[shuffled[:num]]
  code = centroids(train, num, iterations=iterations)
  rows = [('training images', some), ('k-means centroids', code)]
  return [window(data.name, *row, validation, test) for row in rows]


def _known(data) -> tuple[list[Window], float]:
  """Fresh draws of a known distribution and centroids of others; its own score."""
  truth = Known(jnp.asarray(flat(data, 'train', COMPONENTS)))
  keys = jax.random.split(jax.random.key(0), 4)
  train, fresh, validation, test = (
    np.asarray(truth.draw(key, num))
    for key, num in zip(keys, (5000, NUM, 1000, 2000), strict=True)
  )
  name = f'{COMPONENTS} Gaussians'
  code = centroids(train, NUM)
  rows = [('fresh draws of the law', fresh), ('k-means centroids', code)]
  found = [window(name, *row, validation, test) for row in rows]
  return found, float(jax.jit(truth.log_prob)(jnp.asarray(test)).mean())


def _cells(row: Window) -> list[str]:
  nats = f'{row.nats:.1f} +- {row.error:.1f}'
  return [row.data, row.samples, f'{row.num:,}', f'{row.std:g}', nats]


def pitfall(*, data_dir: str | None, out: pathlib.Path) -> dict[str, Any]:
  """Scores what is no model by Parzen windows.

  Args:
    data_dir: where TensorFlow Datasets keeps MNIST, or None.
    out: unused; this table has no picture.

  Returns:
    Every number, ready for JSON, and the printed tables by name.
  """
  del out
  began = time.perf_counter()
  print(
    'Parzen windows: a Gaussian on each of so many "samples", its bandwidth the best on'
    ' the validation split of'
    f' {STDS[0]} ... {STDS[-1]}, then the mean log-density of the test split, pixels in'
    ' [0, 1], +- standard error over test images. One draw of everything, seed 0.'
    ' THIS NUMBER IS NO LOG-LIKELIHOOD OF THE MODEL whose samples were taken.',
    flush=True,
  )
  digits = registry.load('digits')
  rows = _images(digits, NUM, 360, 100)
  known, exact = _known(digits)
  rows += known
  if data_dir:
    mnist = registry.load('tfds:mnist?validation=5000', data_dir=data_dir)
    rows += _images(mnist, LARGE, 2000, 3)
  table = report.Table(WINDOWS_HEADER, [_cells(row) for row in rows])
  print('\n' + report.text_table(*table))
  gaps = [b.nats - a.nats for a, b in zip(rows[::2], rows[1::2], strict=True)]
  beaten = 'in every pair' if min(gaps) > 0 else 'NOT in every pair'
  print(
    f'{beaten} centroids, which no model of the data draws, score above draws from the'
    f' truth, by {", ".join(f"{gap:.1f}" for gap in gaps)} nats. The law of'
    f' {COMPONENTS} Gaussians itself has {exact:.1f} nats on the same test draws.'
  )
  print(
    'The paper, on MNIST: true distribution'
    f' {RECALLED["training images"]}, k-means {RECALLED["k-means centroids"]} (recalled'
    ' and not confirmed).'
  )
  seconds = time.perf_counter() - began
  print(f'{seconds:.0f} seconds in all')
  return {
    'tables': {'windows': table},
    'rows': [row._asdict() for row in rows],
    'exact': exact,
    'seconds': seconds,
    'versions': report.versions(),
  }


def excess(key: jax.Array, dim: int, num: int) -> tuple[float, float, float]:
  """The mean of ln p - ln p_hat over draws of p = N(0, I), its error, the bandwidth.

  The bandwidth is the best on draws apart, of 24 between 0.05 and 2.
  """
  keys = jax.random.split(key, 3)
  points, validation, test = (
    jax.random.normal(k, (n, dim)) for k, n in zip(keys, (num, 500, 1000), strict=True)
  )
  stds = np.geomspace(0.05, 2.0, 24).tolist()
  std, _ = kde.bandwidth(points, validation, stds)
  estimate = jax.jit(lambda x: kde.log_density(points, x, std, num))(test)
  exact = -0.5 * (jnp.square(test).sum(1) + dim * np.log(2 * np.pi))
  gap = np.asarray(exact - estimate, float)
  mean, error = map(float, statistics.mean_and_error(gap))
  return mean, error, std


def dimension(*, out: pathlib.Path) -> dict[str, Any]:
  """The divergence from a Gaussian to its kernel estimate, by dimension; a chart.

  Args:
    out: folder for the chart.

  Returns:
    Every number, ready for JSON, and the printed tables by name.
  """
  began = time.perf_counter()
  print(
    'KL(p | p_hat), p = N(0, I) of D dimensions and p_hat a Gaussian kernel estimate of'
    ' N draws, its bandwidth the best on 500 others; the mean of ln p - ln p_hat over'
    ' 1,000 further draws, nats, +- its standard error. One draw of points each.',
    flush=True,
  )
  found = {
    (dim, num): excess(jax.random.fold_in(jax.random.key(dim), num), dim, num)
    for num in SIZES
    for dim in DIMENSIONS
  }
  cells = []
  for dim in DIMENSIONS:
    sizes = [found[dim, num] for num in SIZES]
    nats = (f'{mean:.3f} +- {error:.3f}' for mean, error, _ in sizes)
    cells.append([str(dim), *nats, ', '.join(f'{std:.2f}' for *_, std in sizes)])
  table = report.Table(DIMENSION_HEADER, cells)
  print('\n' + report.text_table(*table))
  lines = {
    f'N = {num:,}': (DIMENSIONS, [found[dim, num][0] for dim in DIMENSIONS])
    for num in SIZES
  }
  path = out / 'kde_dimension.png'
  plots.curves(path, lines, xlabel='dimension D', ylabel='KL(p | p_hat), nats')
  seconds = time.perf_counter() - began
  print(f'chart: {path}; {seconds:.0f} seconds in all')
  rows = [
    {'dimension': dim, 'num': num, 'nats': mean, 'error': error, 'bandwidth': std}
    for (dim, num), (mean, error, std) in found.items()
  ]
  return {
    'tables': {'divergences': table},
    'rows': rows,
    'seconds': seconds,
    'versions': report.versions(),
  }
