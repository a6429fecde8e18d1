"""A denoiser of integers, which knows that data lie on levels.

The number d of x is one of K levels v_k, and given all of z = alpha v + sigma e

  p(v_k | z)  ~  p(v_k | z but for z_d) exp(-(z_d - alpha v_k)^2 / (2 sigma^2)).

A network gives the logarithm of the first factor, up to a constant; the second is
known. At little noise the posterior is a level by itself, where a network of z alone
would have to tell all K of them apart by a function as fine as the lattice.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gm_jax import base


class Posterior(nn.Module):
  """E[v | z] of levels evenly on [-1, 1], where alpha^2 + sigma^2 = 1.

  With a network of 0 all levels are alike beforehand, and every number is denoised by
  itself, exactly.

  Attributes:
    network: a denoiser whose outputs are K times as many as its inputs, K of each
      number side by side.
    num_levels: K.
    is_flat: whether the network takes vectors.
  """

  network: nn.Module
  num_levels: int
  is_flat: bool = False

  def __call__(
    self,
    z: base.Array,
    t: base.Array,
    condition: base.Array | None = None,
    *,
    train: bool = False,
  ) -> base.Array:
    """Maps z `[B, ...]` at t = gamma / 8 `[B]` to the mean of v, `[B, ...]`.

    Raises:
      ValueError: the network has another number of outputs.
    """
    inputs = z.reshape(len(z), -1) if self.is_flat else z
    prior = self.network(inputs, t, condition, train=train)
    if prior.size != z.size * self.num_levels:
      raise ValueError(
        f'a network of {self.num_levels} levels must give as many outputs for each'
        f' number of {z.shape}, got {prior.shape}'
      )
    prior = prior.reshape(*z.shape, self.num_levels)
    gamma = (8.0 * t).reshape(-1, *(1,) * z.ndim)
    alpha = jnp.sqrt(jax.nn.sigmoid(-gamma))
    values = jnp.linspace(-1.0, 1.0, self.num_levels, dtype=z.dtype)
    # 1 / sigma^2 = 1 + exp(-gamma).
    far = jnp.square(z[..., None] - alpha * values) * (1.0 + jnp.exp(-gamma))
    return jax.nn.softmax(prior - 0.5 * far) @ values
