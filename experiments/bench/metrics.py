"""Metrics of samples, at the sizes of papers, beside the packages that define them.

Each row is one compiled function of ours and, of the same features, what the field
computes it by: the Frechet distance by numpy's covariance and scipy's square root of a
matrix, as pytorch-fid has it; precision, recall, density and coverage by the package
`prdc`; the kernel distance by torch-fidelity. A row is a function (repeats, scale) ->
dict; `ROWS` lists them. Without its package a row has no peer.
"""

import contextlib
import io
from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import goals, timing
from gm_jax.metrics import frechet, kernel_distance, prdc

NUM, SIZE = 10_000, 2_048  # of features, as Inception's
INTRINSIC = 64  # dimensions of which features are functions, but for some noise
NEIGHBORS, SUBSETS, SUBSET_SIZE = 5, 100, 1_000
AGREEMENT = 1e-3  # relative difference of values that is let pass
FASTER = 1.5
COLUMNS = timing.COLUMNS


def features(num: int, size: int) -> tuple[np.ndarray, np.ndarray]:
  """Two sets of features in float32, positive and correlated as activations are."""
  rng = np.random.default_rng(0)
  weights = rng.standard_normal((INTRINSIC, size)) / INTRINSIC**0.5
  bias = rng.standard_normal(size) / 2

  def draw(scale):
    z = scale * rng.standard_normal((num, INTRINSIC))
    noise = 0.1 * rng.standard_normal((num, size))
    return np.maximum(z @ weights + bias + noise, 0.0).astype(np.float32)

  return draw(1.0), draw(0.9)


def _scipy():
  import scipy

  return scipy


def _prdc():
  import prdc as package

  return package


def _torch_fidelity():
  from torch_fidelity import metric_kid

  return metric_kid


LOADERS = {'scipy': _scipy, 'prdc': _prdc, 'torch_fidelity': _torch_fidelity}


def peer(name: str):
  """A peer's module, by its name in LOADERS, or None where it is not installed."""
  try:
    return LOADERS[name]()
  except ImportError:
    return None


def sqrtm_distance(moments, other) -> float:
  """The Frechet distance of (mean, covariance)s by a square root of their product."""
  from scipy import linalg

  (mean1, cov1), (mean2, cov2) = moments, other
  root = linalg.sqrtm(cov1 @ cov2)
  traces = np.trace(cov1) + np.trace(cov2) - 2.0 * np.trace(root.real)
  return np.square(mean1 - mean2).sum() + traces


def numpy_moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The mean and covariance in float64."""
  return x.mean(axis=0, dtype=np.float64), np.cov(x, rowvar=False)


def _row(name, other, ours, theirs, repeats) -> dict:
  """Both sides' times and how far apart their values are."""
  more = {}
  if theirs is not None:
    more['difference'] = timing.difference([ours()], [theirs()])
  return timing.beside(name, other, ours, theirs, repeats, **more)


def frechet_row(repeats: int, scale: int = 1) -> dict:
  """The Frechet distance, from features."""
  num, size = NUM // scale, SIZE // scale
  x, y = features(num, size)
  on_device, distance = (jnp.array(x), jnp.array(y)), jax.jit(frechet.frechet)
  theirs = None
  if peer('scipy') is not None:
    theirs = lambda: sqrtm_distance(numpy_moments(x), numpy_moments(y))  # noqa: E731
  name = f'Frechet distance of features, 2 x {num:,} x {size:,}'
  return _row(name, 'numpy, scipy', lambda: distance(*on_device), theirs, repeats)


def moments_row(repeats: int, scale: int = 1) -> dict:
  """The Frechet distance, from moments that are there."""
  num, size = NUM // scale, SIZE // scale
  moments = [numpy_moments(x) for x in features(num, size)]
  single = [jnp.asarray(a, jnp.float32) for pair in moments for a in pair]
  distance, theirs = jax.jit(frechet.frechet_distance), None
  if peer('scipy') is not None:
    theirs = lambda: sqrtm_distance(*moments)  # noqa: E731
  name = f'Frechet distance of moments, {size:,}'
  return _row(name, 'scipy', lambda: distance(*single), theirs, repeats)


def prdc_row(repeats: int, scale: int = 1) -> dict:
  """Precision, recall, density and coverage."""
  num, size = NUM // scale, SIZE // scale
  x, y = features(num, size)
  on_device = jnp.array(x), jnp.array(y)
  compiled = jax.jit(lambda x, y: jnp.stack(prdc.prdc(x, y, k=NEIGHBORS)))
  package, theirs = peer('prdc'), None
  if package is not None:

    def theirs():
      with contextlib.redirect_stdout(io.StringIO()):  # it prints the counts
        found = package.compute_prdc(x, y, NEIGHBORS)
      return np.array([found[name] for name in prdc.PRDC._fields])

  name = f'precision, recall, density, coverage, 2 x {num:,} x {size:,}'
  return _row(name, 'prdc', lambda: compiled(*on_device), theirs, repeats)


def kernel_row(repeats: int, scale: int = 1) -> dict:
  """The kernel distance, of 100 subsets; values are compared of one subset of all."""
  num, size, few = NUM // scale, SIZE // scale, SUBSET_SIZE // scale
  x, y = features(num, size)
  subsets = SUBSETS // scale
  key, on_device = jax.random.key(0), (jnp.array(x), jnp.array(y))

  @jax.jit
  def ours(key, x, y):
    options = {'num_subsets': subsets, 'subset_size': few}
    return kernel_distance.kernel_distance(key, x, y, **options)[0]

  @jax.jit
  def once(x, y):
    options = {'num_subsets': 1, 'subset_size': few}
    return kernel_distance.kernel_distance(key, x, y, **options)[0]

  package, theirs, more = peer('torch_fidelity'), None, {}
  if package is not None:
    import torch

    tensors = torch.tensor(x), torch.tensor(y)
    options = {
      'kid_subset_size': few, 'kid_kernel': 'poly', 'kid_kernel_poly_degree': 3,
      'kid_kernel_poly_gamma': None, 'kid_kernel_poly_coef0': 1, 'rng_seed': 0,
      'verbose': False,
    }  # fmt: skip

    def score(first, second, num_subsets):
      found = package.kid_features_to_metric(
        first, second, kid_subsets=num_subsets, **options
      )
      return np.array(found['kernel_inception_distance_mean'])

    def theirs():
      return score(*tensors, subsets)

    parts = [t[:few].double() for t in tensors]
    value = once(*(a[:few] for a in on_device))
    more['difference'] = timing.difference([value], [score(*parts, 1)])
  name = f'kernel distance, {subsets} subsets of {few:,}, 2 x {num:,} x {size:,}'
  return timing.beside(
    name, 'torch-fidelity', lambda: ours(key, *on_device), theirs, repeats, **more
  )


ROWS = (frechet_row, moments_row, prdc_row, kernel_row)
GOALS = {
  'Frechet distance of features: times faster than numpy and scipy': 'Frechet distance'
  ' of features',
  'Frechet distance of moments: times faster than scipy': 'Frechet distance of moments',
  'precision, recall, density, coverage: times faster than prdc': 'precision',
  'kernel distance: times faster than torch-fidelity': 'kernel distance',
}


def verdicts(rows) -> list[dict]:
  """The goals, each with its number and verdict."""
  return goals.faster(rows, GOALS, FASTER)


def conditions(where) -> dict[str, str]:
  """Those of all benchmarks, and the peers' versions."""
  facts = timing.conditions(where)
  for name in ('scipy', 'scikit-learn', 'prdc', 'torch-fidelity'):
    try:
      facts[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      facts[name] = 'not installed'
  return facts


def run(*, repeats: int, quick: bool = False) -> dict:
  """Measures all, prints, returns numbers and tables; `quick` is an eighth the size."""
  where, scale = timing.prepare(), 8 if quick else 1
  timing.compiled(jnp.sin, (jnp.ones(3),))  # the first one loads the compiler
  rows = [row(repeats, scale) for row in ROWS]
  return timing.finish(rows, COLUMNS, verdicts(rows), conditions(where), AGREEMENT)
