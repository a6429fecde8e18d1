"""Restricted Boltzmann machines: energies, conditionals, chains and log Z.

Visible v in {0, 1}^D and hidden h in {0, 1}^H, with no connections within a layer:

  E(v, h) = -a . v - b . h - v W h,   p(v, h) = exp(-E(v, h)) / Z
  F(v) = -log sum_h exp(-E(v, h)) = -a . v - sum_j softplus(b_j + (v W)_j)
  p(h_j = 1 | v) = sigmoid(b_j + (v W)_j),   p(v_i = 1 | h) = sigmoid(a_i + (W h)_i)

so that p(v) = exp(-F(v)) / Z. Parameters are a dict: `visible` a [D], `hidden` b [H],
`weights` W [D, H]. B is the batch, or the number of chains; everything is in nats, and
units are floats 0 or 1.

Source: Information Processing in Dynamical Systems: Foundations of Harmony Theory,
Smolensky, 1986; Training Products of Experts by Minimizing Contrastive Divergence,
Hinton, 2002, Neural Computation 14.
"""

import jax
import jax.numpy as jnp

from gm_jax import base
from gm_jax.metrics import annealed, importance

Array = base.Array
MOST_UNITS = 20  # of the smaller layer: a million configurations
CHUNK_BITS = 12  # of them, configurations held at once


def _times(x: Array, weights: Array) -> Array:
  return jnp.matmul(x, weights, precision=jax.lax.Precision.HIGHEST)


def hidden_logits(params: base.Params, v: Array) -> Array:
  """Log-odds `[B, H]` of the hidden units, given v `[B, D]`."""
  return params['hidden'] + _times(v, params['weights'])


def visible_logits(params: base.Params, h: Array) -> Array:
  """Log-odds `[B, D]` of the visible units, given h `[B, H]`."""
  return params['visible'] + _times(h, params['weights'].T)


def energy(params: base.Params, v: Array, h: Array) -> Array:
  """E(v, h) `[B]` nats, of v `[B, D]` and h `[B, H]`."""
  return -_times(v, params['visible']) - jnp.sum(h * hidden_logits(params, v), axis=1)


def free_energy(params: base.Params, v: Array) -> Array:
  """F(v) `[B]` nats, the energy with the hidden units summed out, of v `[B, D]`."""
  softplus = jax.nn.softplus(hidden_logits(params, v))
  return -_times(v, params['visible']) - softplus.sum(axis=1)


def draw(key: Array, logits: Array) -> Array:
  """Units by their log-odds, floats 0 or 1 of the same shape."""
  return jax.random.bernoulli(key, jax.nn.sigmoid(logits)).astype(logits.dtype)


def gibbs(params: base.Params, key: Array, v: Array, num_steps: int | Array) -> Array:
  """Moves chains by k steps of block Gibbs sampling, which leaves p(v) invariant.

  h ~ p(h | v);  v ~ p(v | h)

  Args:
    params: of the machine.
    key: `[]` typed key.
    v: `[B, D]` where the chains are.
    num_steps: k, may be traced.

  Returns:
    `[B, D]` where they are afterwards, of v's dtype.
  """

  def step(i, v):
    h_key, v_key = jax.random.split(jax.random.fold_in(key, i))
    h = draw(h_key, hidden_logits(params, v))
    return draw(v_key, visible_logits(params, h)).astype(v.dtype)

  return jax.lax.fori_loop(0, num_steps, step, v)


def is_enumerable(num_visible: int, num_hidden: int) -> bool:
  """Whether the smaller layer is small enough for `log_partition`."""
  return min(num_visible, num_hidden) <= MOST_UNITS


def log_partition(params: base.Params) -> Array:
  """log Z exactly, by the configurations of the smaller layer.

  log Z = log sum_h exp(b . h + sum_i softplus(a_i + (W h)_i)),

  or the same with the layers exchanged, some thousand configurations at a time.

  Args:
    params: of the machine.

  Returns:
    `[]` nats.

  Raises:
    ValueError: the smaller layer has more than `MOST_UNITS` units.
  """
  num_visible, num_hidden = params['weights'].shape
  if not is_enumerable(num_visible, num_hidden):
    raise ValueError(
      f'log Z is exact up to {MOST_UNITS} units in the smaller layer, got'
      f' {num_visible} visible and {num_hidden} hidden: annealed_log_partition'
      ' estimates it'
    )
  if num_hidden < num_visible:  # the machine upside down
    params = {
      'visible': params['hidden'], 'hidden': params['visible'],
      'weights': params['weights'].T,
    }  # fmt: skip
  num = min(num_visible, num_hidden)
  bits = min(num, CHUNK_BITS)

  def chunk(first):
    index = first + jnp.arange(1 << bits)
    units = (index[:, None] >> jnp.arange(num)) & 1
    return jax.nn.logsumexp(-free_energy(params, units.astype(jnp.float32)))

  firsts = jnp.arange(1 << (num - bits)) << bits
  return jax.nn.logsumexp(jax.lax.map(chunk, firsts))


def annealed_log_partition(
  params: base.Params,
  key: Array,
  base_logits: Array,
  *,
  num_chains: int = 500,
  num_steps: int = 1000,
) -> tuple[Array, Array]:
  """log Z by annealed importance sampling, from a machine without weights.

  -F_t(v) = ((1 - t) a0 + t a) . v + sum_j softplus(t (b_j + (v W)_j)),  t from 0 to 1
  Z_0 = 2^H prod_i (1 + exp(a0_i)),  E w = Z / Z_0 of w as in `metrics.annealed`

  Units v are drawn from p_0 exactly, and moved by a step of Gibbs sampling at every t.
  The mean of the weights is unbiased of Z; its logarithm is below log Z in expectation,
  so that a log p(x) made of it tends to be TOO LARGE. Without weights, and with a0 = a,
  every chain has Z itself.

  Source: On the Quantitative Analysis of Deep Belief Networks, Salakhutdinov and
  Murray, 2008, ICML.

  Args:
    params: of the machine.
    key: `[]` typed key.
    base_logits: `[D]` a0, log-odds of p_0, say of the data's own rates.
    num_chains: C.
    num_steps: T, temperatures after 0, dense at both ends.

  Returns:
    `[]` nats, and `[]` the standard error over chains, by the delta method; NaN of a
    single chain.

  Raises:
    ValueError: a number below 1.
  """
  if num_chains < 1:
    raise ValueError(f'num_chains must be >= 1, got {num_chains}')
  dtype = params['weights'].dtype
  times = jnp.asarray(annealed.sigmoid_schedule(num_steps), dtype)
  num_visible, num_hidden = params['weights'].shape

  def tempered(t):
    mixed = jax.tree.map(lambda p: t * p, params)
    return mixed | {'visible': mixed['visible'] + (1.0 - t) * base_logits}

  def step(carry, inputs):
    v, log_weights = carry
    key, before, after = inputs
    rise = free_energy(tempered(before), v) - free_energy(tempered(after), v)
    return (gibbs(tempered(after), key, v, 1), log_weights + rise), None

  start_key, run_key = jax.random.split(key)
  v = draw(start_key, jnp.broadcast_to(base_logits, (num_chains, num_visible)))
  inputs = jax.random.split(run_key, num_steps), times[:-1], times[1:]
  (_, log_weights), _ = jax.lax.scan(step, (v, jnp.zeros(num_chains, dtype)), inputs)
  value, error = importance.log_mean(log_weights)
  start = num_hidden * jnp.log(2.0) + jax.nn.softplus(base_logits).sum()
  return start + value, error
