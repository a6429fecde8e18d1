"""Annealed importance sampling of log p(x), for any decoder with a known likelihood.

Chains go from a distribution q that is easy to draw from, the prior or a posterior, to
the posterior of z, along

  f_b(z) = q(z)^(1 - b) (p(z) p(x | z))^b,  0 = b_0 < ... < b_T = 1,

  log w = sum_t (b_t - b_{t-1}) (log p(z_{t-1}) + log p(x | z_{t-1}) - log q(z_{t-1})),

with z_0 ~ q and z_t from z_{t-1} by a transition that leaves f_{b_t} as it is. From the
prior this is f_b = p(z) p(x | z)^b. Then E w = p(x), so that the logarithm of the mean
of some w is a stochastic LOWER bound of log p(x): at most log p(x) in expectation, and
above log p(x) + c with a probability of at most e^-c. Where x was simulated by the
model, the z that it came from is an exact draw from the posterior; chains from there
back to q give 1 / w of expectation 1 / p(x), and with it a stochastic UPPER bound. The
gap between the two says how far off the lower one can be (bidirectional Monte Carlo).

Transitions are of Hamiltonian Monte Carlo. Their step sizes are found by a few chains
that go first, by example and b, and are kept by those that count: step sizes that a
chain adapts to its own past would bias w, and no bound would be left.

Shapes: B examples, C chains of each, T steps, Z the latent's size. Everything is in
nats.

Source: Annealed Importance Sampling, Neal, 2001, Statistics and Computing 11; On the
Quantitative Analysis of Decoder-Based Generative Models, Wu et al., 2017,
arXiv:1611.04273; Sandwiching the marginal likelihood using bidirectional Monte Carlo,
Grosse et al., 2015, arXiv:1511.02543.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gm_jax.metrics import importance
from gm_jax.samplers import mcmc

Array = jax.Array


class Decoder(NamedTuple):
  """A latent-variable model, as functions whose rows know nothing of one another."""

  # (z [N, Z], x [N, ...]) -> [N] nats; x an array or a tree, as `forward` has it
  log_likelihood: Callable[[Array, Any], Array]
  log_prior: Callable[[Array], Array]  # z [N, Z] -> [N] nats, normalized
  draw_prior: Callable[[Array, int], Array]  # (key, num) -> z [num, Z]


class Posterior(NamedTuple):
  """An approximate posterior q(z | x) that chains may begin at."""

  draw: Callable[[Array, Any], Array]  # (key, x [N, ...]) -> z [N, Z]
  log_prob: Callable[[Array, Any], Array]  # (z [N, Z], x [N, ...]) -> [N] nats


class Chains(NamedTuple):
  """The sizes of a run."""

  num_chains: int = 16  # C, of each example
  num_steps: int = 1000  # T, temperatures after b = 0
  num_leapfrog: int = 10  # leapfrog steps a temperature
  step_size: float = 0.1  # where adaptation begins
  num_adapting: int = 4  # chains that find step sizes; 0: all are `step_size`
  acceptance: float = 0.65  # that step sizes are found for
  chunk: int = 25  # examples at once: memory is of chunk * C decodings


class Estimate(NamedTuple):
  """Estimates of log p(x), of B examples."""

  log_prob: Array  # [B] nats
  standard_error: Array  # [B] nats, over chains, by the delta method
  log_weights: Array  # [C, B] nats, of every chain
  z: Array  # [C, B, Z] where the chains ended
  acceptance: Array  # [B] mean over chains and temperatures
  step_size: Array  # [B] mean over temperatures


def sigmoid_schedule(num_steps: int, *, radius: float = 4.0) -> np.ndarray:
  """Temperatures that are dense at both ends.

  b_t = (s(r (2 t / T - 1)) - s(-r)) / (s(r) - s(-r)),  s(a) = 1 / (1 + e^-a)

  Source: On the Quantitative Analysis of Decoder-Based Generative Models, Wu et al.,
  2017, arXiv:1611.04273, whose r is 4.

  Args:
    num_steps: T >= 1.
    radius: r > 0.

  Returns:
    `[T + 1]` from 0 to 1 exactly.

  Raises:
    ValueError: T < 1 or r <= 0.
  """
  if num_steps < 1 or not radius > 0:
    raise ValueError(
      f'num_steps must be >= 1 and radius > 0, got {num_steps} and {radius}'
    )
  values = 1.0 / (1.0 + np.exp(-radius * np.linspace(-1.0, 1.0, num_steps + 1)))
  return (values - values[0]) / (values[-1] - values[0])


def forward(
  decoder: Decoder,
  key: Array,
  x: Any,
  *,
  posterior: Posterior | None = None,
  chains: Chains = Chains(),  # noqa: B008, immutable
) -> Estimate:
  """A stochastic lower bound of log p(x), by chains from q to the posterior.

  Args:
    decoder: the model.
    key: `[]` typed key; every example has its own, whatever the chunk.
    x: `[B, ...]` data, or a tree of such, as data and their conditions.
    posterior: q, where chains begin; the prior if None.
    chains: the sizes of the run.

  Returns:
    The estimates. A weight that is NaN gives NaN.

  Raises:
    ValueError: a size below 1.
  """
  check_chains(chains)

  def one(inputs):
    key, x = inputs
    steps_key, start_key, run_key = jax.random.split(key, 3)
    path = _path(decoder, posterior, x)
    sizes = _step_sizes(path, steps_key, chains)
    start = path.draw(start_key, chains.num_chains)
    return _run(path, run_key, start, sizes, chains)

  log_weights, z, acceptance, sizes = _each(one, key, (x,), chains)
  log_prob, error = importance.log_mean(log_weights.T)
  return Estimate(
    log_prob, error, log_weights.T, jnp.moveaxis(z, 0, 1), acceptance, sizes
  )


def reverse(
  decoder: Decoder,
  key: Array,
  x: Any,
  z: Array,
  *,
  posterior: Posterior | None = None,
  chains: Chains = Chains(),  # noqa: B008, immutable
) -> Estimate:
  """A stochastic upper bound of log p(x), by chains from the z that x came from.

  -log 1/C sum_c exp(-log w_c)

  Only of simulated data: z must be a draw from p(z | x), as one is that x was drawn
  from. All chains of an example begin at the one there is, so that their standard error
  is that of the paths, given it.

  Args:
    decoder: the model.
    key: `[]` typed key.
    x: `[B, ...]` data that the model drew from z.
    z: `[B, Z]` those.
    posterior: q, where chains end; the prior if None.
    chains: the sizes of the run.

  Returns:
    The estimates.

  Raises:
    ValueError: a size below 1, or numbers of x and z that differ.
  """
  check_chains(chains)
  num = len(jax.tree.leaves(x)[0])
  if num != len(z):
    raise ValueError(f'x and z must be as many, got {num} and {len(z)}')

  def one(inputs):
    key, x, z = inputs
    steps_key, _, run_key = jax.random.split(key, 3)
    path = _path(decoder, posterior, x)
    sizes = _step_sizes(path, steps_key, chains)
    start = jnp.broadcast_to(z, (chains.num_chains, *z.shape))
    return _run(path, run_key, start, sizes, chains, backwards=True)

  log_weights, end, acceptance, sizes = _each(one, key, (x, z), chains)
  log_prob, error = importance.log_mean(-log_weights.T)
  return Estimate(
    -log_prob, error, log_weights.T, jnp.moveaxis(end, 0, 1), acceptance, sizes
  )


def check_chains(chains: Chains) -> None:
  """Raises ValueError for a size or a step size that is too small."""
  for name, number in chains._asdict().items():
    least = 0 if name == 'num_adapting' else 1
    if isinstance(number, int) and number < least:
      raise ValueError(f'{name} must be >= {least}, got {number}')
  if not chains.step_size > 0:
    raise ValueError(f'step_size must be > 0, got {chains.step_size}')
  if not 0 < chains.acceptance < 1:
    raise ValueError(f'acceptance must be in (0, 1), got {chains.acceptance}')


def _each(one: Callable, key: Array, arrays: Any, chains: Chains):
  """Maps over examples, each with a key of its own, a chunk of them at once."""
  arrays = jax.tree.map(jnp.asarray, arrays)  # numpy's take no traced index
  num = len(jax.tree.leaves(arrays)[0])
  chunk = min(chains.chunk, num)
  # The last chunk is filled up: a remainder would be compiled once more.
  index = jnp.arange(-(-num // chunk) * chunk).reshape(-1, chunk) % num

  def several(index):
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
    return jax.vmap(one)((keys, *jax.tree.map(lambda a: a[index], arrays)))

  found = jax.lax.map(several, index)
  return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:num], found)


class _Path(NamedTuple):
  """The densities between q and the posterior of one example, of chains [C, Z]."""

  draw: Callable  # (key, num) -> z [num, Z] from q
  difference: Callable  # z -> [C] nats, log p(z) + log p(x | z) - log q(z)
  density: Callable  # b -> (z -> [C] nats, log f_b)


def _path(decoder: Decoder, posterior: Posterior | None, x: Any) -> _Path:
  def repeated(num):
    return jax.tree.map(lambda a: jnp.broadcast_to(a, (num, *a.shape)), x)

  def log_likelihood(z):
    return decoder.log_likelihood(z, repeated(len(z)))

  if posterior is None:
    draw, log_start, difference = decoder.draw_prior, decoder.log_prior, log_likelihood
  else:

    def draw(key, num):
      return posterior.draw(key, repeated(num))

    def log_start(z):
      return posterior.log_prob(z, repeated(len(z)))

    def difference(z):
      return log_likelihood(z) + decoder.log_prior(z) - log_start(z)

  def density(b):
    return lambda z: log_start(z) + b * difference(z)

  return _Path(draw, difference, density)


def _move(path: _Path, key: Array, z: Array, b, step_size, chains: Chains):
  """One transition at b, of a step size that varies about the one given."""
  size_key, key = jax.random.split(key)
  # Else a path may come to be about a half turn, and chains be mirrored for long.
  size = step_size * jax.random.uniform(size_key, (len(z),), minval=0.5, maxval=1.5)
  density = path.density(b)
  return mcmc.hmc(density, key, z, step_size=size, num_leapfrog=chains.num_leapfrog)


def _step_sizes(path: _Path, key: Array, chains: Chains) -> Array:
  """Step sizes [T] by temperature: the geometric mean of those of adapting chains."""
  if not chains.num_adapting:
    return jnp.full(chains.num_steps, chains.step_size)
  start_key, run_key = jax.random.split(key)
  z = path.draw(start_key, chains.num_adapting)
  target = {'target': chains.acceptance}
  first = mcmc.adaptation(jnp.full(chains.num_adapting, chains.step_size), **target)

  def step(carry, inputs):
    z, sizes = carry
    found = jnp.log(sizes.step_size).mean()
    key, b = inputs
    z, info = _move(path, key, z, b, sizes.step_size, chains)
    return (z, mcmc.adapted(sizes, info.acceptance, **target)), found

  betas = jnp.asarray(sigmoid_schedule(chains.num_steps)[1:])
  keys = jax.random.split(run_key, chains.num_steps)
  return jnp.exp(jax.lax.scan(step, (z, first), (keys, betas))[1])


def _run(path: _Path, key, start, sizes, chains: Chains, backwards: bool = False):
  """Log-weights [C], end [C, Z], mean acceptance [] and mean step size [] of a run."""
  betas = sigmoid_schedule(chains.num_steps).astype(np.float32)
  rises = jnp.asarray(np.diff(betas.astype(float)))  # of what is used

  def step(carry, inputs):
    z, log_weights = carry
    key, b, rise, size = inputs
    if backwards:  # the same steps in the other order: first moved, then weighed
      z, info = _move(path, key, z, b, size, chains)
    log_weights = log_weights + rise * path.difference(z)
    if not backwards:
      z, info = _move(path, key, z, b, size, chains)
    return (z, log_weights), info.acceptance.mean()

  keys = jax.random.split(key, chains.num_steps)
  inputs = keys, jnp.asarray(betas[1:]), rises, sizes
  carry = start, jnp.zeros(len(start))
  (z, log_weights), accepted = jax.lax.scan(step, carry, inputs, reverse=backwards)
  return log_weights, z, accepted.mean(), sizes.mean()
