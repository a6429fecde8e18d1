"""MADE: a perceptron whose masks let output i depend on the dimensions before i alone.

Each hidden unit has a degree m in {0 ... D - 2}: it may depend on the first m + 1
places of the order. A connection is kept where the degree does not fall, and to the
output of place d where m < d. Masks are data, not weights: several orders and draws of
degrees share one set of weights.

Source: MADE: Masked Autoencoder for Distribution Estimation, Germain et al., 2015,
arXiv:1502.03509, section 3 and algorithm 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gm_jax import base


class Masks(NamedTuple):
  """One mask a layer, 0 or 1 as float32, `[in, out]` each."""

  layers: tuple[np.ndarray, ...]  # the last leads to the outputs, [H, D]
  direct: np.ndarray  # [D, D], from inputs to outputs


def masks(rng: np.random.Generator, order: np.ndarray, hidden: Sequence[int]) -> Masks:
  """Draws masks of an order: degrees are uniform, from the lowest of the layer before.

  Source: MADE, Germain et al., 2015, arXiv:1502.03509, algorithm 1.

  Args:
    rng: generator of the degrees.
    order: `[D]` permutation, `order[i]` is the position that comes i-th.
    hidden: sizes of the hidden layers.

  Returns:
    Masks whose first and last axes are positions in memory, not places of the order.
  """
  num = len(order)
  place = np.argsort(order)  # place of each position in the order
  degrees = [place]
  for size in hidden:
    # A degree below all of the layer before would be a unit without inputs.
    lowest = min(int(degrees[-1].min()), max(num - 2, 0))
    degrees.append(rng.integers(lowest, max(num - 1, 1), size))
  pairs = zip(degrees[:-1], degrees[1:], strict=True)
  layers = [before[:, None] <= after[None] for before, after in pairs]
  # Strict here and nowhere else: an output must not depend on its own input.
  layers.append(degrees[-1][:, None] < place[None])
  direct = place[:, None] < place[None]
  return Masks(tuple(m.astype(np.float32) for m in layers), direct.astype(np.float32))


def stacked(several: Sequence[Masks]) -> Masks:
  """Stacks masks along a leading axis, so that a traced index may choose one.

  Args:
    several: S masks of the same sizes.

  Returns:
    Masks whose arrays are `[S, in, out]`.
  """
  return jax.tree.map(lambda *parts: np.stack(parts), *several)


class MADE(nn.Module):
  """A masked perceptron of K outputs a dimension: logits of K levels, or one of two.

  Attributes:
    num_dims: D.
    hidden: sizes of the hidden layers.
    num_outputs: K; 1 for a Bernoulli's logit.
    num_levels: levels of the inputs; 2 are taken as they are, more one-hot.
  """

  num_dims: int
  hidden: Sequence[int] = (128,)
  num_outputs: int = 1
  num_levels: int = 2

  @nn.compact
  def __call__(
    self,
    x: base.Array,
    masks: Masks,
    condition: base.Array | None = None,
    *,
    train: bool = False,
  ) -> base.Array:
    """Maps data to the parameters of every conditional.

    Args:
      x: `[B, D]` levels; with num_levels = 2 also real numbers.
      masks: one mask a layer; see `masks`.
      condition: `[B, C]` to condition on, or None.
      train: ignored; nothing differs in training.

    Returns:
      `[B, D, K]`, or `[B, D]` if K = 1; output d depends on what precedes d alone.

    Raises:
      ValueError: another shape of x.
    """
    del train
    if x.ndim != 2 or x.shape[1] != self.num_dims:
      raise ValueError(f'x must be [B, {self.num_dims}], got {x.shape}')
    width = 1 if self.num_levels == 2 else self.num_levels
    inputs = self._inputs(x)
    h, sizes = inputs, (*self.hidden, self.num_dims * self.num_outputs)
    for i, (size, mask) in enumerate(zip(sizes, masks.layers, strict=True)):
      fan_in = h.shape[1]
      kernel = self.param(f'kernel_{i}', nn.initializers.lecun_normal(), (fan_in, size))
      bias = self.param(f'bias_{i}', nn.initializers.zeros, (size,))
      mask = jnp.repeat(mask, width, axis=0) if i == 0 else mask
      last = i == len(self.hidden)
      mask = jnp.repeat(mask, self.num_outputs, axis=1) if last else mask
      h = (h if i == 0 else nn.relu(h)) @ (kernel * mask) + bias
      if condition is not None:
        h += nn.Dense(size, use_bias=False, name=f'condition_{i}')(condition)
    # Zero at the beginning: the path that skips the hidden layers is learned.
    direct = jnp.repeat(jnp.repeat(masks.direct, width, 0), self.num_outputs, 1)
    shape = (inputs.shape[1], sizes[-1])
    h += inputs @ (self.param('direct', nn.initializers.zeros, shape) * direct)
    return h if self.num_outputs == 1 else h.reshape(*x.shape, self.num_outputs)

  def _inputs(self, x):
    if self.num_levels == 2:
      return x.astype(jnp.promote_types(x.dtype, jnp.float32))
    # In a narrow dtype of its own a level may equal others: 5 is 261 in uint8.
    return jax.nn.one_hot(x.astype(jnp.int32), self.num_levels).reshape(len(x), -1)
