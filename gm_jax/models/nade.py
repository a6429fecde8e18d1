"""The neural autoregressive distribution estimator's network.

  h_i = sigmoid(c + sum_{j < i} W_j x_j),   out_i = b_i + V_i h_i

The sum grows by a row of W at a time: all D conditionals in O(D H), by a scan. An
output is the logit of a one, or the parameters of another distribution.

Source: The Neural Autoregressive Distribution Estimator, Larochelle and Murray, 2011,
AISTATS, equations 2 to 4; with other distributions, RNADE, Uria et al., 2013,
arXiv:1306.0186.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from gm_jax import base


class NADE(nn.Module):
  """The conditionals of x in {0 ... K - 1}^D, with one hidden layer for all.

  Attributes:
    num_dims: D.
    hidden: H.
    num_levels: K; the network's input is x / (K - 1).
    outputs: O, parameters of a dimension; None for one logit, without an axis for it.
  """

  num_dims: int
  hidden: int = 64
  num_levels: int = 2
  outputs: int | None = None

  def setup(self):
    """Creates the weights, W and V as rows of a position each."""
    normal = nn.initializers.normal(1.0 / math.sqrt(self.hidden))
    shape = self.num_dims, self.hidden
    out = () if self.outputs is None else (self.outputs,)
    self.encoder = self.param('encoder', normal, shape)  # W
    self.decoder = self.param('decoder', normal, (*shape, *out))  # V
    self.hidden_bias = self.param('hidden_bias', nn.initializers.zeros, shape[1:])
    self.bias = self.param('bias', nn.initializers.zeros, (self.num_dims, *out))
    self.of_condition = nn.Dense(self.hidden, use_bias=False)

  def start(self, num: int, condition: base.Array | None = None) -> base.Array:
    """Returns the memory before the first position.

    Args:
      num: B, how many examples are drawn.
      condition: `[B, C]` to condition on, or None.

    Returns:
      `[B, H]` the hidden layer's inputs.

    Raises:
      ValueError: another shape of the condition.
    """
    memory = jnp.broadcast_to(self.hidden_bias, (num, self.hidden))
    if condition is None:
      return memory
    if condition.ndim != 2 or len(condition) != num:
      raise ValueError(f'condition must be [{num}, C], got {condition.shape}')
    return memory + self.of_condition(condition)

  def conditional(self, memory: base.Array, i: base.Array) -> base.Array:
    """Returns the logit `[B]`, or parameters `[B, O]`, of the i-th position."""
    return self.bias[i] + jax.nn.sigmoid(memory) @ self.decoder[i]

  def update(self, memory: base.Array, i: base.Array, value: base.Array) -> base.Array:
    """Returns the memory `[B, H]` that holds the i-th position's value `[B]` too."""
    return memory + self._scale(value)[:, None] * self.encoder[i]

  def _scale(self, x: base.Array) -> base.Array:
    return x.astype(self.bias.dtype) / (self.num_levels - 1)

  def __call__(
    self, x: base.Array, condition: base.Array | None = None, *, train: bool = False
  ) -> base.Array:
    """Maps data to the parameters of every conditional.

    Args:
      x: `[B, D]` integers in [0, K).
      condition: `[B, C]` to condition on, or None.
      train: ignored; nothing differs in training.

    Returns:
      `[B, D]` logits or `[B, D, O]` parameters, the i-th a function of x[:, :i].

    Raises:
      ValueError: another shape of x or of the condition.
    """
    del train
    if x.ndim != 2 or x.shape[1] != self.num_dims:
      raise ValueError(f'x must be [B, {self.num_dims}], got {x.shape}')

    # The memory before position i is the sum over j < i: read out, then add x_i.
    def step(memory, inputs):
      value, weights, out, bias = inputs
      logit = bias + jax.nn.sigmoid(memory) @ out
      return memory + value[:, None] * weights, logit

    inputs = self._scale(x).T, self.encoder, self.decoder, self.bias
    start = self.start(len(x), condition)
    _, out = jax.lax.scan(step, start, inputs)
    return jnp.moveaxis(out, 0, 1)
