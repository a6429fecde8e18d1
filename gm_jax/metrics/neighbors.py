"""Nearest neighbors of many points, chunk by chunk on the device.

Distances are those of differences, |x - y|, at the speed of matrix products: the
product |x|^2 + |y|^2 - 2 <x, y> about a common center picks out what is near, within a
bound of its rounding, and the differences decide. What the product cannot tell apart
(tight clusters far from each other, an outlier, copies) is found by differences alone,
which costs two to three times as much. Equal rows are at distance 0.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gm_jax.losses import discrepancy
from gm_jax.metrics import rows

Array = jax.Array

SPARE = 8  # candidates beside those that are asked for
GROUP = 16  # columns of which the least stands for all in a first selection


class Bounded(NamedTuple):
  """Squared distances by a matrix product, and how far off they may be."""

  squares: Array  # [N, M]
  slack: Array  # [N, M], |squares - exact| is less


class Neighbors(NamedTuple):
  """The nearest of some points."""

  indices: Array  # [N, num] int32, of the points, nearest first
  distances: Array  # [N, num], in the unit of the data


def bounded_squares(x: Array, y: Array) -> Bounded:
  """Squared distances by a matrix product, with a bound of their rounding.

  |x|^2 + |y|^2 - 2 <x, y>  within  (8 + 2 sqrt(D)) eps (|x|^2 + |y|^2)

  Rounding of a sum of D products grows as sqrt(D), and the bound is some four times
  what it reaches.

  Args:
    x: `[N, D]`, centered by the caller.
    y: `[M, D]`, centered likewise.

  Returns:
    `[N, M]` squares, negative ones among them, and `[N, M]` slack.
  """
  product = jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)
  norms = jnp.square(x).sum(axis=1)[:, None] + jnp.square(y).sum(axis=1)
  units = 8.0 + 2.0 * x.shape[1] ** 0.5
  return Bounded(norms - 2.0 * product, units * jnp.finfo(x.dtype).eps * norms)


def squares_of_pairs(x: Array, y: Array) -> Array:
  """Squared distances row by row, to the last digit as `squared_distances` has them.

  Args:
    x: `[N, D]`.
    y: `[N, D]`.

  Returns:
    `[N]`.
  """

  def of_pair(x, y):
    return discrepancy.squared_distances(x[None], y[None])[0, 0]

  return jax.vmap(of_pair)(x, y)


def smallest(values: Array, num: int) -> tuple[Array, Array]:
  """The least numbers of every row, in order, and their columns.

  The `num` least lie in the `num` groups of columns whose own least are the least: a
  minimum over groups, which is quick, leaves few columns to the selection.

  Args:
    values: `[N, M]`.
    num: of numbers, at most M.

  Returns:
    `[N, num]` numbers, the least first, and `[N, num]` int32 columns.
  """
  width = values.shape[1]
  if width % GROUP or width < 4 * GROUP * num:
    found, columns = jax.lax.top_k(-values, num)
    return -found, columns
  grouped = values.reshape(-1, GROUP, width // GROUP)  # group g has columns = g mod
  _, groups = jax.lax.top_k(-grouped.min(axis=1), num)
  few = jnp.take_along_axis(grouped, groups[:, None, :], axis=2)
  found, place = jax.lax.top_k(-few.reshape(-1, GROUP * num), num)
  group = jnp.take_along_axis(groups, place % num, axis=1)
  return -found, place // num * (width // GROUP) + group


def nearest_squares(
  queries: Array, points: Array, *, num: int, chunk: int
) -> tuple[Array, Array]:
  """The columns and squared distances of the nearest points; see `nearest`.

  Args:
    queries: `[N, D]` floats.
    points: `[M, D]` floats.
    num: of neighbors, at most M.
    chunk: queries at a time.

  Returns:
    `[N, num]` int32 indices of points, nearest first, and `[N, num]` squares, which
    are NaN where a query, or any point, is not finite.
  """
  center = jax.lax.stop_gradient(rows.middle(points))
  near = points - center
  some = min(num + SPARE, points.shape[0])
  defined = jnp.isfinite(jnp.square(near).sum())

  def selected(squares, columns):
    squares, place = smallest(squares, num)
    return squares, jnp.take_along_axis(columns, place, axis=1)

  def by_differences(x):
    squares, columns = smallest(discrepancy.squared_distances(x, points), num)
    return squares, columns

  def chunk_of_queries(index):
    x = queries[index]
    close = x - center
    squares, slack = bounded_squares(close, near)
    bounds, columns = smallest(squares - slack, some)
    exact = jax.lax.map(lambda j: squares_of_pairs(x, points[j]), columns.T).T
    found = selected(exact, columns)
    # No point that is left out is nearer than the last bound.
    sure = (bounds[:, -1] >= found[0][:, -1]).all() | (some == points.shape[0])
    squares, columns = jax.lax.cond(sure, lambda: found, lambda: by_differences(x))
    right = defined & jnp.isfinite(jnp.square(close).sum(axis=1))[:, None]
    return columns, jnp.where(right, squares, jnp.nan)

  parts = jax.lax.map(chunk_of_queries, rows.chunks(queries.shape[0], chunk))
  indices, squares = (p.reshape(-1, num)[: queries.shape[0]] for p in parts)
  return indices, squares


def nearest(
  queries: Array, points: Array, *, num: int = 1, chunk: int = 1024
) -> Neighbors:
  """The nearest points of every query, by Euclidean distance.

  Memory is of order chunk * M. Distances are good to float epsilon times themselves,
  wherever the rows are; of equally far points any is taken. A query that is among the
  points finds itself, at distance 0.

  Args:
    queries: `[N, D]`.
    points: `[M, D]`.
    num: of neighbors, 1 to M.
    chunk: queries at a time.

  Returns:
    `[N, num]` indices of points and `[N, num]` distances, nearest first. Where they
    are traced, a query that is not finite has distances NaN, and a point that is not
    makes all NaN.

  Raises:
    ValueError: rows that are not [number, D] of one D, `num` not in 1 to M, a chunk
      below 1, or numbers that are not finite.
  """
  queries, points = rows.check(queries=queries, points=points)
  if not 1 <= num <= points.shape[0]:
    raise ValueError(
      f'num must be from 1 to {points.shape[0]}, the number of points, got {num}'
    )
  indices, squares = nearest_squares(queries, points, num=num, chunk=chunk)
  return Neighbors(indices, jnp.sqrt(squares))
