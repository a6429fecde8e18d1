"""The diversity of a set, or of each class: the mean distance of two of its members."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from gm_jax import statistics
from gm_jax.losses import discrepancy, shapes
from gm_jax.metrics import rows

Array = jax.Array


def mean_pairwise_distance(
  key: Array,
  x: Array,
  distance: Callable[[Array, Array], Array],
  *,
  num_pairs: int = 1000,
  chunk: int = 64,
) -> tuple[Array, Array]:
  """The mean distance of two different rows, over random pairs.

  E d(x_i, x_j),  i and j != i uniform

  With a perceptual distance it is the diversity that is reported of translations and of
  samples of one condition: 0 where all are the same. Compare with that of data: noise
  is diverse too. Pairs are drawn with replacement, independently of each other once the
  set is there. Batch-coupled.

  Source: The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, Zhang
  et al., 2018, arXiv:1801.03924, for the distance; Toward Multimodal Image-to-Image
  Translation, Zhu et al., 2017, arXiv:1711.11586, section 5, for the mean.

  Args:
    key: `[]` typed key of the pairs.
    x: `[N, ...]` samples, N >= 2.
    distance: (`[B, ...]`, `[B, ...]`) -> `[B]`.
    num_pairs: of pairs, >= 2.
    chunk: pairs at a time.

  Returns:
    `[]` mean, and `[]` its standard error over pairs, in the unit of the distance. The
    error is of the mean distance within this set: that another set would give another
    mean is not in it.

  Raises:
    ValueError: fewer than two rows, fewer than two pairs, a chunk below 1, or a
      distance that is not [B].
  """
  (x,) = shapes.floats(x=x)
  num = x.shape[0] if x.ndim else 0
  if num < 2:
    raise ValueError(f'x needs two rows or more, got shape {list(x.shape)}')
  if num_pairs < 2:
    raise ValueError(f'num_pairs must be >= 2 for a standard error, got {num_pairs}')
  first_key, second_key = jax.random.split(key)
  first = jax.random.randint(first_key, (num_pairs,), 0, num)
  # A step of 1 to N - 1 around the circle: any other row.
  second = (first + jax.random.randint(second_key, (num_pairs,), 1, num)) % num

  def of_pairs(index):
    found = distance(x[first[index]], x[second[index]])
    if found.shape != index.shape:
      raise ValueError(
        f'distance must be [B] = {list(index.shape)}, got {list(found.shape)}'
      )
    return found

  values = jax.lax.map(of_pairs, rows.chunks(num_pairs, chunk))
  return statistics.mean_and_error(values.reshape(-1)[:num_pairs])


def within_classes(
  x: Array, label: Array, *, num_classes: int, chunk: int = 256
) -> Array:
  """The mean distance of two examples of a class, of every class.

  E |x - x'| over pairs x != x' of the class: of N(m, s^2 I) in D dimensions
  2 s Gamma((D + 1) / 2) / Gamma(D / 2).

  Source: the practice, with MS-SSIM in place of the distance, of Conditional Image
  Synthesis with Auxiliary Classifier GANs, Odena et al., 2017, arXiv:1610.09585,
  section 4.3.

  Args:
    x: `[N, ...]` examples.
    label: `[N]` ints in [0, K).
    num_classes: K.
    chunk: examples that are compared with all others at a time.

  Returns:
    `[K]` in the unit of the data, Euclidean; NaN of a class with fewer than two.

  Raises:
    ValueError: labels are not `[N]`.
  """
  (x,) = shapes.floats(x=x)
  chex.assert_shape(
    label,
    (len(x),),
    custom_message='label must be [N] as x',
    exception_type=ValueError,
  )
  num, flat = len(x), x.reshape(len(x), -1)
  chunk = min(chunk, num)
  one_hot = jax.nn.one_hot(jnp.asarray(label, jnp.int32), num_classes)
  # Rounded up to full chunks, as `jax.lax.map` needs; the rows beyond weigh nothing.
  index = jnp.arange(-(-num // chunk) * chunk).reshape(-1, chunk)

  def sums(rows):
    own = jnp.where((rows < num)[:, None], one_hot[jnp.minimum(rows, num - 1)], 0.0)
    distances = discrepancy.distances(flat[jnp.minimum(rows, num - 1)], flat)
    distances = jnp.where(rows[:, None] == jnp.arange(num), 0.0, distances)
    return jnp.einsum('ck,cn,nk->k', own, distances, one_hot)

  counts = one_hot.sum(axis=0)
  return jax.lax.map(sums, index).sum(axis=0) / (counts * (counts - 1))
