"""The diversity of a set, as the mean distance between two of its members."""

from collections.abc import Callable

import jax

from gm_jax import statistics
from gm_jax.losses import shapes
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
