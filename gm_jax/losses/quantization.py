"""Codes from a table: the terms of vector quantization, and a codebook of averages.

An encoder's vector z [D] is replaced by the nearest of K codes e_k. The choice has no
gradient: the decoder's is passed to z as it is (`straight_through`). What moves the
codes is either a term of the loss or, without a gradient, an average of the vectors
that chose them (`updated`). Squares are sums over a vector's dimensions, not means as
in much public code, whose weights of the terms are then D times ours.

Source: Neural Discrete Representation Learning, van den Oord et al., 2017,
arXiv:1711.00937, eq. 3 and appendix A.1.

  >>> import jax.numpy as jnp
  >>> from gm_jax.losses import quantization
  >>> codes = jnp.array([[0.0, 0.0], [1.0, 1.0]])
  >>> print(quantization.nearest(jnp.array([[0.9, 0.8], [0.1, -3.0]]), codes))
  [1 0]
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gm_jax.losses import divergence, shapes

Array = jax.Array


class Codebook(NamedTuple):
  """Codes, and what their averages are made of."""

  codes: Array  # [K, D]
  counts: Array  # [K] decayed number of vectors that chose a code
  sums: Array  # [K, D] decayed sum of these vectors


def codebook(codes: Array) -> Codebook:
  """Begins averages: codes stay where they are until vectors choose them.

  Args:
    codes: `[K, D]` at the beginning.

  Returns:
    The codebook, whose counts `[K]` and sums `[K, D]` are 0.

  Raises:
    ValueError: codes that are not [K, D].
  """
  (codes,) = shapes.floats(codes=codes)
  if codes.ndim != 2:
    raise ValueError(f'codes must be [K, D], got {codes.shape}')
  return Codebook(codes, jnp.zeros(len(codes), codes.dtype), jnp.zeros_like(codes))


def nearest(z: Array, codes: Array) -> Array:
  """The number of the code that is nearest to each vector; of equals the first.

  Args:
    z: `[..., D]` vectors.
    codes: `[K, D]`.

  Returns:
    `[...]` int32 in [0, K).

  Raises:
    ValueError: codes that are not [K, D] with the D of z.
  """
  z, codes = _vectors_and_codes(z, codes)
  # |z - e|^2 - |z|^2, about the codes' mean: a common offset costs no digits.
  center = codes.mean(axis=0)
  z, codes = z - center, codes - center
  products = jnp.matmul(z, codes.T, precision='highest')
  distances = jnp.square(codes).sum(axis=-1) - 2.0 * products
  return distances.argmin(axis=-1).astype(jnp.int32)


def straight_through(z: Array, quantized: Array) -> Array:
  """Returns `quantized`, whose gradient is passed on to z unchanged.

  Args:
    z: `[...]` what was quantized.
    quantized: `[...]` what came of it.

  Returns:
    `[...]`, exactly `quantized`.

  Raises:
    ValueError: two shapes, or scalars.
  """
  shapes.check_equal(z=z, quantized=quantized)
  z, quantized = shapes.floats(z=z, quantized=quantized)
  return jax.lax.stop_gradient(quantized) + (z - jax.lax.stop_gradient(z))


def commitment(z: Array, quantized: Array) -> Array:
  """The cost of vectors far from their codes, paid by the encoder; minimized.

  sum ||z - sg[e]||^2, times 0.25 in the paper

  Args:
    z: `[B, ..., D]` the encoder's vectors.
    quantized: `[B, ..., D]` their codes.

  Returns:
    `[B]`, in the squared unit of the codes.

  Raises:
    ValueError: two shapes, or scalars.
  """
  shapes.check_equal(z=z, quantized=quantized)
  z, quantized = shapes.floats(z=z, quantized=quantized)
  squares = jnp.square(z - jax.lax.stop_gradient(quantized))
  return squares.reshape(len(squares), -1).sum(axis=1)


def codebook_loss(z: Array, quantized: Array) -> Array:
  """The cost of codes far from their vectors, if nothing else moves them; minimized.

  sum ||sg[z] - e||^2

  Args:
    z: `[B, ..., D]` the encoder's vectors.
    quantized: `[B, ..., D]` their codes, read from the codebook.

  Returns:
    `[B]`, in the squared unit of the codes.

  Raises:
    ValueError: two shapes, or scalars.
  """
  return commitment(quantized, z)


def updated(book: Codebook, z: Array, index: Array, *, decay: float = 0.99) -> Codebook:
  """Moves every chosen code to the decayed average of its vectors. Batch-coupled.

  N_k <- g N_k + (1 - g) n_k,  m_k <- g m_k + (1 - g) sum of the n_k vectors,
  e_k <- m_k / N_k where n_k > 0

  Numerator and denominator begin at 0, which needs no correction: after t steps

    e_k = sum_i g^(t - i) (sum of its vectors at step i) / sum_i g^(t - i) n_k,i.

  A code that no vector chose stays where it is, bit by bit.

  Args:
    book: before the step.
    z: `[..., D]` vectors.
    index: `[...]` integers, the code of each.
    decay: g, in [0, 1).

  Returns:
    The codebook after it.

  Raises:
    ValueError: shapes that do not fit, an index that is not of integers, or a decay
      outside [0, 1).
  """
  z, _ = _vectors_and_codes(z, book.codes)
  shapes.check_integers(index=index)
  if index.shape != z.shape[:-1]:
    raise ValueError(f'index must be {z.shape[:-1]}, got {index.shape}')
  if not 0 <= decay < 1:
    raise ValueError(f'decay must be in [0, 1), got {decay}')
  z, index = jax.lax.stop_gradient(z).reshape(-1, z.shape[-1]), index.ravel()
  num = len(book.codes)
  new = jax.ops.segment_sum(jnp.ones(len(z), z.dtype), index, num)
  counts = decay * book.counts + (1.0 - decay) * new
  sums = decay * book.sums + (1.0 - decay) * jax.ops.segment_sum(z, index, num)
  chosen = new > 0
  average = sums / jnp.where(chosen, counts, 1.0)[:, None]
  return Codebook(jnp.where(chosen[:, None], average, book.codes), counts, sums)


def restarted(book: Codebook, key: Array, z: Array, *, least: float) -> Codebook:
  """Puts codes that are hardly chosen on vectors of the batch, all different.

  Args:
    book: after `updated`.
    key: of the vectors that are taken.
    z: `[..., D]` vectors, at least as many as codes.
    least: codes whose decayed count is below it begin anew.

  Returns:
    The codebook, its new codes without a past.

  Raises:
    ValueError: fewer vectors than codes.
  """
  z, codes = _vectors_and_codes(z, book.codes)
  z = jax.lax.stop_gradient(z).reshape(-1, z.shape[-1])
  if len(z) < len(codes):
    raise ValueError(
      f'a batch of {len(z)} vectors cannot fill {len(codes)} codes: use as many vectors'
      ' or fewer codes'
    )
  taken = jax.random.permutation(key, z)[: len(codes)]
  dead = book.counts < least
  return Codebook(
    jnp.where(dead[:, None], taken, codes),
    jnp.where(dead, 0.0, book.counts),
    jnp.where(dead[:, None], 0.0, book.sums),
  )


def perplexity(counts: Array) -> Array:
  """How many codes are in use: exp of the entropy of their frequencies.

  Args:
    counts: `[..., K]` how often each was chosen, over a whole data set: a batch has
      at most as many codes as vectors.

  Returns:
    `[...]` from 1 to K; 1 where nothing was counted.
  """
  (counts,) = shapes.floats(counts=counts)
  total = counts.sum(axis=-1, keepdims=True)
  return jnp.exp(divergence.entropy(counts / jnp.where(total > 0, total, 1.0)))


def _vectors_and_codes(z: Array, codes: Array) -> tuple[Array, Array]:
  z, codes = shapes.floats(z=z, codes=codes)
  if codes.ndim != 2 or not z.ndim or z.shape[-1] != codes.shape[-1]:
    raise ValueError(
      f'z must be [..., D] and codes [K, D], got {z.shape} and {codes.shape}'
    )
  return z, codes
