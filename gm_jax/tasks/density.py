"""How likely a method finds data that it never saw, in nats and bits.

Every number is named by what the method's card and the data's transform make of it:

  nll                exact negative log-likelihood of discrete data, a mass
  nll_bound          at least that: by the model's own bound, or by noise that spreads
                     the levels over intervals (Jensen's inequality; see `transforms`)
  nll_density        of real numbers, as the raw data are; no bits, which depend on
                     the unit
  ..._estimate       where the method estimates it, unbiased or not

in nats an example; bits_per_dim, with the same endings, is that over D log 2. Of each
there is a standard error over the examples, `..._error`. What an estimate's own noise
adds is `..._estimate_noise`, the standard error of the mean if the examples were kept
and the estimates drawn again; `..._error` has it in it already. Of a method with the
query `log_partition` all examples share it, and it is no smaller of many.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gm_jax import base, model_space, statistics
from gm_jax.losses import likelihood
from gm_jax.tasks import results

CHUNK = 125  # examples evaluated at once
SPLITS = ('test', 'validation')


class Score(NamedTuple):
  """How a method's nats are had, and what they are."""

  nats: Callable  # (model, key, x, *, condition) -> [B], or ([B], [B] noise)
  is_bound: bool
  is_estimate: bool
  kind: str
  shared: bool = False  # an estimate's noise is of one log Z, the same of all examples


def score_of(method: base.Method, num_samples: int | None = None) -> Score:
  """The best that a method has to say of log p(x), by its card.

  Args:
    method: any.
    num_samples: of the importance-weighted bound; None for the method's elbo.

  Raises:
    ValueError: the card has no density to report, or the method lacks what the card
      claims.
  """
  density, queries = method.card.density, method.queries
  bound = 'elbo' if num_samples is None else 'iwae'
  found = {
    'exact': method.log_prob,
    'lower_bound': queries.get(bound),
    'estimate': queries.get('log_prob_estimate'),
  }
  needed = {'exact': 'log_prob', 'lower_bound': bound, 'estimate': 'log_prob_estimate'}
  if density not in found:
    raise ValueError(
      f'this method has no likelihood to report: its density is {density!r}, and it'
      ' must be exact, lower_bound or estimate'
    )
  if found[density] is None:
    raise ValueError(
      f'the card says {density!r}, and so the method must have {needed[density]}'
    )
  if num_samples is not None and density != 'lower_bound':
    raise ValueError(f'num_samples is of a lower bound, and the density is {density!r}')
  nats, kind = found[density], density
  if density == 'lower_bound':
    kind = "upper bound, by the model's lower bound of log p"
    if num_samples is not None:
      kind += f' with {num_samples} samples'

    def nats(model, key, x, *, condition):
      options = {} if num_samples is None else {'num_samples': num_samples}
      return found[density](model, key, x, condition=condition, **options)

  shared = density == 'estimate' and 'log_partition' in queries
  return Score(nats, density == 'lower_bound', density == 'estimate', kind, shared)


def density(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
  *,
  splits: Sequence[str] = SPLITS,
  num: int | None = None,
  num_samples: int | None = None,
) -> base.Result:
  """Negative log-likelihood and bits per dimension of data held out.

  Args:
    method: of an exact density, a lower bound or an estimate.
    model: its parameters.
    key: of noise; every split is scored with the same one.
    arrays: raw, by split, with what the card's `condition` names.
    spec: of the data.
    splits: which are scored, 'test' under the names above, others with their name
      and _ before; those that the data lack are left out, but for 'test'.
    num: of each split's examples, at most; None for all.
    num_samples: of the importance-weighted bound, for a method that has one.

  Returns:
    The numbers, each []; no arrays.

  Raises:
    ValueError: the method has no likelihood to report, a density meets a lattice of
      levels, or a split has a single example or lacks the condition.
  """
  score = score_of(method, num_samples)
  if method.card.measure == 'density' and spec.transform.measure == 'mass':
    raise ValueError(
      'this method gives a density, which on a lattice of levels has no bound: images'
      ' with ?transform=dequantization, or points'
    )
  found = []
  for split in splits:
    if split != 'test' and split not in arrays:
      continue
    values = _of_split(score, method.card, model, key, arrays, split, spec, num)
    prefix = '' if split == 'test' else f'{split}_'
    found.append(base.Result({prefix + name: v for name, v in values.items()}))
  return results.merged(*found)


def known_density(
  method: base.Method,
  model: base.Model,
  key: base.Array,
  arrays: Mapping[str, base.Batch],
  spec: base.DataSpec,
  *,
  known: Callable[[base.Array], base.Array],
  num: int | None = None,
) -> base.Result:
  """How far a method is from data whose density is known, of the same test points.

  Args:
    method: of an exact density, a lower bound or an estimate.
    model: its parameters.
    key: of noise.
    arrays: raw, by split, with 'test'.
    spec: of the data.
    known: raw x `[B, ...]` -> `[B]` nats, the density of the data.
    num: of the test points, at most; None for all.

  Returns:
    `entropy_estimate`, the mean of -log p of the data, and `kl_estimate`, the mean of
    log p - log q with q the method's; of a bound an upper bound. Each has `..._error`.

  Raises:
    ValueError: the method has no likelihood to report, or there is a single point.
  """
  score = score_of(method)
  raw = jnp.asarray(results.split_of(arrays, 'test')['x'][:num])
  noise_key, key = jax.random.split(key)
  x = spec.transform.forward(noise_key, raw)
  nats = in_chunks(lambda x: score.nats(model, key, x, condition=None), x)
  nats, noise = nats if score.is_estimate else (nats, jnp.zeros(1))
  truth = in_chunks(known, raw)
  found = {
    'entropy_estimate': -truth,
    'kl_estimate': truth - nats - spec.transform.log_det(noise_key, raw),
  }
  values = {}
  for name, each in found.items():
    mean, error = statistics.mean_and_error(each)
    if score.shared and name == 'kl_estimate':  # that of log Z, as in `_of_split`
      error = jnp.hypot(error, jnp.max(noise))
    values[name] = mean, f'estimate, N = {len(raw)}'
    values[f'{name}_error'] = error, f'standard error over {len(raw)} examples'
  return base.Result(values)


def _of_split(score, card, model, key, arrays, split, spec, num) -> dict:
  raw = {k: jnp.asarray(v[:num]) for k, v in results.split_of(arrays, split).items()}
  size = len(raw['x'])
  if size < 2:
    raise ValueError(f'the {split} split has {size} examples, and an error needs two')
  noise_key, key = jax.random.split(key)
  data = model_space.forward(spec, noise_key, raw)
  condition = results.condition_of(card, data)
  nats = in_chunks(
    lambda x, c: score.nats(model, key, x, condition=c), data['x'], condition
  )
  nats, noise = nats if score.is_estimate else (nats, None)
  is_mass = spec.transform.measure == 'mass'
  log_det = 0.0 if is_mass else spec.transform.log_det(noise_key, raw['x'])
  per_dim = 1.0 / (math.prod(spec.shape) * math.log(2.0))
  bits = likelihood.bits_per_dimension(
    nats, math.prod(spec.shape), measure=spec.transform.measure, log_det=log_det
  )
  each = {'nll': (-(nats + log_det), 1.0)}
  if spec.num_levels is not None:
    each['bits_per_dim'] = bits, per_dim
  ending, kind = _named(score, spec)
  values = {}
  for name, (numbers, unit) in each.items():
    name += ending
    mean, error = statistics.mean_and_error(numbers)
    values[name] = mean, f'{kind}, N = {size}'
    values[f'{name}_error'] = error, f'standard error over {size} examples'
    if noise is not None:
      own = unit * (jnp.max(noise) if score.shared else jnp.linalg.norm(noise) / size)
      if score.shared:  # examples, which all have it, do not show it
        values[f'{name}_error'] = jnp.hypot(error, own), values[f'{name}_error'][1]
      values[f'{name}_noise'] = own, f"standard error of the estimates' own, N = {size}"
  return values


def _named(score: Score, spec: base.DataSpec) -> tuple[str, str]:
  """The ending of a name, and the kind of the number."""
  by_noise = spec.num_levels is not None and spec.transform.measure == 'density'
  kind = score.kind
  if by_noise:
    kind = f'{kind}; ' if score.is_bound or score.is_estimate else ''
    kind += 'upper bound, by noise on the levels'
  if score.is_bound or by_noise:
    ending = '_bound'
  elif spec.num_levels is None:
    ending, kind = '_density', f'{kind}, of raw data'
  else:
    ending = ''
  return ending + ('_estimate' if score.is_estimate else ''), kind


def in_chunks(fn: Callable, *arrays: Any) -> Any:
  """Calls fn with CHUNK rows at a time, so that many fit in memory.

  Args:
    fn: trees `[B, ...]` -> a tree of [B, ...].
    *arrays: trees of arrays `[N, ...]`; None stays None.

  Returns:
    What fn of all rows would be, `[N, ...]`.
  """
  num = len(jax.tree.leaves(arrays)[0])
  size = min(CHUNK, num)
  index = jnp.arange(-(-num // size) * size).reshape(-1, size) % num
  chunks = jax.lax.map(
    lambda i: fn(*jax.tree.map(lambda a: jnp.asarray(a)[i], arrays)), index
  )
  return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:num], chunks)
