"""How different the examples of one class are from each other."""

import chex
import jax
import jax.numpy as jnp

from gm_jax.losses import discrepancy, shapes

Array = jax.Array


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
