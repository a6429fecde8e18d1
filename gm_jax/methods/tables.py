"""Models by counting: every conditional is a table, and the fit is a frequency.

For x in {0 ... K - 1}^n and a memory of m numbers,

  p(x) = prod_i p(x_i | x_{i - m} ... x_{i - 1}),
  p(v | c) = (N(c, v) + s) / (N(c) + s K),

with N counted over all data, s the smoothing. m = 0 is independence, with n (K - 1)
parameters; m = 1 the first-order Markov chain, (K - 1) + (n - 1) K (K - 1); m = n - 1
any law at all, K^n - 1, which `full_table` holds as one table. A chain whose tables are
shared by all positions is stationary: a model of text.

A step counts its batch: an epoch of steps is the fit on all data, whatever the batch.

Source: Shannon, 1948, A Mathematical Theory of Communication, section 3; smoothing by a
constant is Laplace's and Lidstone's.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gm_jax import base, conditions, orders
from gm_jax.losses import shapes

MAX_ENTRIES = 2**27  # of counts, int32: half a GiB
CARD = base.Card(
  density='exact',
  density_cost='one_pass',
  measure='mass',
  sampling='exact',
  sampling_cost='per_dimension',
  training=('maximum_likelihood', 'closed_form'),
  latents='none',
  architecture='causal',
)


def num_parameters(
  num_dims: int, num_levels: int, *, memory: int | None = None, shared: bool = False
) -> int:
  """Counts the free parameters of a model by counting, as a Python integer.

  One RGB pixel of 256 levels has 256^3 - 1 = 16,777,215 with the full table; the 255^3
  of lecture notes multiplies what must be raised before the one is taken away.

  Args:
    num_dims: n >= 1.
    num_levels: K >= 2.
    memory: m, or None for the full table.
    shared: whether all positions with a full memory have one table.

  Raises:
    ValueError: a number that is too small.
  """
  _check(num_dims, num_levels, memory or 0, 0.0)
  if memory is None:
    return num_levels**num_dims - 1
  contexts = [num_levels ** min(i, memory) for i in range(num_dims)]
  if shared:
    contexts = contexts[: memory + 1]
  return sum(contexts) * (num_levels - 1)


def _check(num_dims, num_levels, memory, smoothing):
  if num_dims < 1 or num_levels < 2:
    raise ValueError(
      f'num_dims must be >= 1 and num_levels >= 2, got {num_dims} and {num_levels}'
    )
  if memory < 0:
    raise ValueError(f'memory must be >= 0, got {memory}')
  if not 0 <= smoothing < math.inf:
    raise ValueError(f'smoothing must be finite and >= 0, got {smoothing}')


def _check_entries(num: int) -> None:
  if num > MAX_ENTRIES:
    raise ValueError(
      f'a table of {num} entries is too large: at most {MAX_ENTRIES}; a shorter memory'
      ' or fewer levels'
    )


def _log_frequencies(counts: base.Array, smoothing: float) -> base.Array:
  """Returns log p(v | c) over the last axis; a context never seen is uniform."""
  counts = counts.astype(jnp.float32) + smoothing
  total = counts.sum(axis=-1, keepdims=True)
  num = counts.shape[-1]
  uniform = jnp.full_like(counts, -math.log(num))
  seen = jnp.log(counts) - jnp.log(jnp.where(total > 0, total, 1.0))
  return jnp.where(total > 0, seen, uniform)


def _counting(contexts_of, num_entries, num_values) -> tuple:
  """Makes init and step of a method whose state is counts [entries, values]."""

  def init(key, batch):
    del key, batch
    counts = jnp.zeros((num_entries, num_values), jnp.int32)
    extra = {base.LOCAL: {'counts': counts}}
    return base.State(jnp.zeros((), jnp.int32), {}, extra, (), ())

  def step(state, key, batch):
    del key
    entries, values = contexts_of(batch['x'])
    counts = state.extra[base.LOCAL]['counts'].at[entries, values].add(1)
    extra = {base.LOCAL: {'counts': counts}}
    state = state._replace(step=state.step + 1, extra=extra)
    return state, {'counted': counts.astype(jnp.float32).sum()}

  return init, step


def levels(x: base.Array, num_levels: int) -> base.Array:
  """Returns integers in [0, K) as int32; traced ones that are not, as the nearest.

  Raises:
    ValueError: x is not of integers or, where it is concrete, not in [0, K).
  """
  shapes.check_levels(num_levels, x=x)
  # Else a level too many would be counted as another example.
  return jnp.clip(jnp.asarray(x, jnp.int32), 0, num_levels - 1)


def full_table(
  shape: Sequence[int], num_levels: int, *, smoothing: float = 0.0
) -> base.Method:
  """Any law on {0 ... K - 1}^n, as one table of K^n frequencies.

  Args:
    shape: of an example, n = prod(shape).
    num_levels: K.
    smoothing: s >= 0, added to every count.

  Returns:
    The method; data x [B, *shape] are integers in [0, K).

  Raises:
    ValueError: K^n is too large, or a number too small.
  """
  dims = math.prod(shape)
  _check(dims, num_levels, 0, smoothing)
  _check_entries(num_levels**dims)
  place = num_levels ** np.arange(dims)[::-1]

  def cells(x):
    x = levels(x, num_levels).reshape(len(x), dims)
    cell = x @ jnp.asarray(place, jnp.int32)
    return jnp.zeros_like(cell), cell

  def log_table(model):
    return _log_frequencies(model.extra[base.LOCAL]['counts'], smoothing)[0]

  def log_prob(model, key, x, *, condition=None):
    del key
    conditions.check_unconditional(condition)
    return log_table(model)[cells(x)[1]]

  def sample(model, key, num, *, condition=None):
    conditions.check_unconditional(condition)
    cell = jax.random.categorical(key, log_table(model), shape=(num,))
    digits = cell[:, None] // jnp.asarray(place, jnp.int32) % num_levels
    return digits.reshape(num, *shape)

  init, step = _counting(cells, 1, num_levels**dims)
  card = CARD._replace(sampling_cost='one_pass', architecture='any')
  return base.Method(card, init, step, sample, log_prob)


def chain(
  shape: Sequence[int],
  num_levels: int,
  *,
  memory: int = 1,
  order: Sequence[int] | np.ndarray | None = None,
  shared: bool = False,
  smoothing: float = 0.0,
) -> base.Method:
  """A Markov chain through the numbers of an example; memory 0 is independence.

  Args:
    shape: of an example, n = prod(shape).
    num_levels: K.
    memory: m, how many of the numbers before each are looked at.
    order: of the positions, as in `orders`; that of memory if None.
    shared: one table for all positions but the first m, which have one each.
    smoothing: s >= 0, added to every count.

  Returns:
    The method; data x [B, *shape] are integers in [0, K).

  Raises:
    ValueError: tables too large, a number too small, no permutation.
  """
  dims = math.prod(shape)
  _check(dims, num_levels, memory, smoothing)
  order = orders.checked(order, dims)
  memory = min(memory, dims - 1)
  tables = memory + 1 if shared else dims
  width = num_levels**memory
  _check_entries(tables * width * num_levels)
  table = np.minimum(np.arange(dims), tables - 1)  # which one each position reads
  back = orders.inverse(order)

  def contexts(x):
    x = levels(x, num_levels).reshape(len(x), dims)[:, order]
    context = jnp.zeros_like(x)
    for i in range(memory, 0, -1):  # the farthest is the most significant digit
      before = jnp.pad(x, ((0, 0), (i, 0)))[:, :dims]
      context = context * num_levels + before
    return jnp.asarray(table, jnp.int32) * width + context, x

  def log_tables(model):
    return _log_frequencies(model.extra[base.LOCAL]['counts'], smoothing)

  def log_prob(model, key, x, *, condition=None):
    del key
    conditions.check_unconditional(condition)
    entries, values = contexts(x)
    return log_tables(model)[entries, values].sum(axis=1)

  def sample(model, key, num, *, condition=None):
    conditions.check_unconditional(condition)
    logs = log_tables(model)

    def draw(context, inputs):
      key, row = inputs
      value = jax.random.categorical(key, logs[row * width + context])
      return (context * num_levels + value) % width, value

    start = jnp.zeros(num, jnp.int32)
    inputs = jax.random.split(key, dims), jnp.asarray(table, jnp.int32)
    _, values = jax.lax.scan(draw, start, inputs)  # [n, num]
    return values.T[:, back].reshape(num, *shape)

  init, step = _counting(contexts, tables * width, num_levels)
  return base.Method(CARD, init, step, sample, log_prob)


def independent(shape: Sequence[int], num_levels: int, **kwargs) -> base.Method:
  """`chain` without memory: n tables of K frequencies."""
  return chain(shape, num_levels, memory=0, **kwargs)
