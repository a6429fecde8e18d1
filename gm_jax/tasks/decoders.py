"""Log-likelihoods of models that have none of their own, by an assumed noise.

A decoder of latents, of a GAN as of an auto-encoder, has a density where its output is
taken for the mean of Gaussian noise,

  p(x) = int p(z) N(x; decode(z), std^2 I) dz,

in model space. It is estimated by annealed importance sampling, whatever the latent's
size: a stochastic lower bound, whose distance is seen on data that the model itself
draws, where there is an upper bound too (bidirectional Monte Carlo). Numbers of two
models compare where noise, data and their space are the same, or the noise is chosen
for each on validation data.

Source: On the Quantitative Analysis of Decoder-Based Generative Models, Wu et al.,
2017, arXiv:1611.04273.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from gm_jax import base, statistics
from gm_jax.losses import likelihood
from gm_jax.metrics import annealed
from gm_jax.tasks import results

STDS = (0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 0.56)  # that the noise is chosen of
NEEDED = ('decode', 'prior', 'log_prior')


def decoder_of(
  method: base.Method, model: base.Model, std: base.Array | float
) -> annealed.Decoder:
  """A method's decoder with Gaussian noise, of data {'x': [N, ...], 'condition': ...}.

  Args:
    method: with the queries `decode`, `prior` and `log_prior`.
    model: its parameters.
    std: of the noise, in model space.

  Returns:
    The decoder.

  Raises:
    ValueError: the method lacks one of the queries.
  """
  decode, prior, log_prior = (results.query_of(method, name) for name in NEEDED)
  key = jax.random.key(0)  # a decoder's output is a function of z

  def log_likelihood(z, data):
    mean = decode(model, key, z, condition=data.get('condition'))
    return likelihood.gaussian(mean, std, data['x'])

  return annealed.Decoder(
    log_likelihood,
    lambda z: log_prior(model, key, z),
    lambda key, num: prior(model, key, num),
  )


def log_likelihood_by_ais(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
  *,
  num: int = 100,
  num_simulated: int = 20,
  num_chains: int = 16,
  num_steps: int = 1000,
  num_leapfrog: int = 10,
  std: float | None = None,
) -> base.Result:
  """The log-likelihood of the test split under a decoder with Gaussian noise.

  Args:
    method: any with the queries `decode`, `prior` and `log_prior`.
    model: its parameters.
    key: of chains and simulated data.
    arrays: raw, by split: 'test', and 'validation' where `std` is None.
    spec: of the data.
    num: test examples, at most.
    num_simulated: examples that the model draws, for the gap.
    num_chains: of each example.
    num_steps: temperatures.
    num_leapfrog: leapfrog steps a temperature.
    std: of the noise, in model space; None for the best of `STDS` on the validation
      split, as many examples as simulated ones, by half the chains of half the
      temperatures.

  Returns:
    `log_likelihood` [] in nats an example of model space, `..._error` over examples,
    `..._noise` by the chains alone; `gap`, the upper less the lower bound on simulated
    data, and `gap_error`; `acceptance`, `step_size`, `noise_std`. Arrays: the
    estimates [N] and their `standard_error`.

  Raises:
    ValueError: the method lacks a query, the data are no real numbers, there is no
      split to choose the noise on, or a size is below 1.
  """
  fit_key, test_key, simulated_key = jax.random.split(key, 3)
  chains = annealed.Chains(num_chains, num_steps, num_leapfrog)
  for name, number in (('num', num), ('num_simulated', num_simulated)):
    if number < 1:
      raise ValueError(f'{name} must be >= 1, got {number}')
  if std is not None and (isinstance(std, str) or not std > 0):
    raise ValueError(f'std must be a number > 0, got {std}')
  annealed.check_chains(chains)
  _check(method, model, spec)
  noise = f'Gaussian noise std {std:g}' if std is not None else (
    f'Gaussian noise, its std of {len(STDS)} the best on validation'
  )  # fmt: skip
  if std is None:
    if 'validation' not in arrays:
      raise ValueError(
        'std is chosen on the validation split, and there is none; give it, as std=0.2'
      )
    validation = _data(method, arrays, spec, 'validation', num_simulated)
    chosen = best_std(method, model, fit_key, validation, chains=chains)
  else:
    chosen = jnp.asarray(std, float)
  decoder = decoder_of(method, model, chosen)
  data = _data(method, arrays, spec, 'test', num)
  found = annealed.forward(decoder, test_key, data, chains=chains)
  gap = _gap(method, model, simulated_key, data, num_simulated, chosen, chains)
  mean, error = statistics.mean_and_error(found.log_prob)
  size, sizes = len(found.log_prob), f'{num_chains} chains of {num_steps} temperatures'
  own = jnp.sqrt(jnp.sum(found.standard_error**2)) / size
  values = {
    'log_likelihood': (
      mean,
      'estimate by annealed importance sampling, a stochastic lower bound, nats in'
      f' model space, {noise}, {sizes}, N = {size}',
    ),
    'log_likelihood_error': (error, f'standard error over {size} examples'),
    'log_likelihood_noise': (own, f"standard error of the chains' own, N = {size}"),
    'gap': (
      gap[0],
      f'upper less lower stochastic bound, on {num_simulated} simulated examples',
    ),
    'gap_error': (gap[1], f'standard error over {num_simulated} examples'),
    'acceptance': (found.acceptance.mean(), 'mean over chains and temperatures'),
    'step_size': (found.step_size.mean(), 'mean over temperatures'),
    'noise_std': (chosen, noise),
  }
  per_example = {
    'log_likelihood': found.log_prob, 'standard_error': found.standard_error
  }  # fmt: skip
  return base.Result(values, per_example)


def best_std(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  data: Mapping[str, Any],
  *,
  stds: Sequence[float] = STDS,
  chains: annealed.Chains = annealed.Chains(),  # noqa: B008, immutable
) -> base.Array:
  """The noise under which data have the largest mean log-likelihood, of a grid.

  Args:
    method: with the queries of `decoder_of`.
    model: its parameters.
    key: of the chains; every choice has the same.
    data: {'x': [N, ...]} in model space, with 'condition' where there is one.
    stds: to choose from, in model space.
    chains: half of them, of half the temperatures, are run.

  Returns:
    [] standard deviation.
  """
  halved = {
    name: -(-getattr(chains, name) // 2) for name in ('num_chains', 'num_steps')
  }

  def mean_at(std):
    decoder = decoder_of(method, model, std)
    found = annealed.forward(decoder, key, data, chains=chains._replace(**halved))
    return found.log_prob.mean()

  grid = jnp.asarray(stds, float)
  means = jax.lax.map(mean_at, grid)
  return grid[jnp.argmax(jnp.where(jnp.isnan(means), -jnp.inf, means))]


def _gap(method, model, key, data, num, std, chains) -> tuple:
  """The mean of upper less lower bounds on simulated examples, and its error."""
  z_key, noise_key, lower_key, upper_key = jax.random.split(key, 4)
  decoder = decoder_of(method, model, std)
  drawn = results.repeated(data, num)  # for the conditions
  z = decoder.draw_prior(z_key, num)
  mean = method.queries['decode'](model, z_key, z, condition=drawn.get('condition'))
  x = mean + std * jax.random.normal(noise_key, mean.shape)
  drawn = drawn | {'x': x}
  lower = annealed.forward(decoder, lower_key, drawn, chains=chains)
  upper = annealed.reverse(decoder, upper_key, drawn, z, chains=chains)
  return statistics.mean_and_error(upper.log_prob - lower.log_prob)


def _data(method, arrays, spec, split, num) -> dict[str, Any]:
  """The first examples of a split in model space, with their conditions."""
  found = results.in_model_space(spec, results.split_of(arrays, split), num)
  condition = results.condition_of(method.card, found)
  data = {'x': jnp.asarray(found['x'])}
  return data if condition is None else data | {'condition': condition}


def _check(method, model, spec) -> None:
  """Raises ValueError for a method or data that have no such likelihood."""
  for name in NEEDED:
    if name == 'log_prior' and 'prior' in method.queries and name not in method.queries:
      raise ValueError(
        'annealed importance sampling needs the density of the prior, the query'
        " 'log_prior', which a prior with classes in it or on a sphere has not"
      )
    results.query_of(method, name)
  if not jnp.issubdtype(spec.dtype, jnp.floating):
    raise ValueError(
      'Gaussian noise is of data that are real numbers, and these are'
      f' {jnp.dtype(spec.dtype)}'
    )
  z = jax.eval_shape(lambda m, k: method.queries['prior'](m, k, 2), model,
                     jax.random.key(0))  # fmt: skip
  if not hasattr(z, 'ndim') or z.ndim != 2:
    shape = jax.tree.map(lambda a: list(a.shape), z)
    raise ValueError(f'latents must be arrays [num, Z], and two of them are {shape}')
