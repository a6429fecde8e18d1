"""The contract: what a generative method is, and the names everybody uses.

A generative model together with its way of learning is a NamedTuple of pure
functions (`Method`), as an optimizer is in optax. Everything else in the
package either makes one (`methods`), is made of one (`training`, `tasks`), or
is mathematics that knows of none (`losses`, `unroll`, `metrics`).

Notation of shapes: B batch, Z latent size, H, W, C image height, width and
channels, T sequence length, D event size, K number of classes or components.
Keys are typed (`jax.random.key`), passed and never stored. Log-densities are
in nats per example.

Batch keys, the same everywhere:
  `x` data, `y` data of a second domain, `label` int class, `text` tokens,
  `condition` what the model is given, `mask` True where observed,
  `domain` int domain.

Queries a method may offer, besides `sample` and `log_prob`; each takes
`(model, key, data, *, condition=None)` and what follows:
  `elbo` -> [B] nats, a lower bound         `iwae` (num_samples) -> [B] nats
  `energy` -> [B] nats, unnormalized        `score` (t) -> as data
  `encode` -> latents                       `decode` (model, key, z) -> data
  `reconstruct` -> as data                  `classify` -> [B, C] logits
  `critic` -> [B] logits                    `translate` -> data
  `impute` (model, key, x, observed, *, num) -> [num, B, ...]
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

Array = jax.Array
PyTree = Any
Params = Any
Batch = Mapping[str, Array]
Metrics = Mapping[str, Array]


class State(NamedTuple):
  """Everything that training carries from one step to the next."""

  step: Array  # [] int32, completed steps
  params: Params  # trained by gradient; a dict by player where there are several
  extra: dict  # carried, not trained: 'batch_stats', 'spectral', 'frozen', ...
  opt_state: PyTree  # a dict by objective where there are several
  ema: PyTree  # () when off, else {'params', 'batch_stats'}; see training.step


class Model(NamedTuple):
  """All that inference needs."""

  params: Params
  extra: dict


class Card(NamedTuple):
  """What a method is, on five axes with their cost: numbers are labelled by it.

  density: of `log_prob`, or of the best query when there is none: 'exact',
    'lower_bound', 'estimate', 'unnormalized' or 'none'.
  density_cost: 'one_pass', 'per_dimension', 'ode', 'mcmc' or 'none'.
  measure: 'mass' (discrete data), 'density' or 'none'.
  sampling: 'one_pass', 'per_dimension', 'iterative' or 'mcmc', and whether
    exact or approximate, as in 'one_pass, exact'.
  training: from 'maximum_likelihood', 'variational', 'adversarial',
    'moment_matching', 'denoising', 'contrastive', 'score_matching',
    'regression', 'reconstruction', 'em', 'closed_form'.
  latents: 'none', 'continuous', 'discrete' or 'data_sized'.
  architecture: the restriction in a few words: 'any', 'invertible', 'causal'.
  """

  density: str
  density_cost: str
  measure: str
  sampling: str
  training: tuple[str, ...]
  latents: str
  architecture: str


class Method(NamedTuple):
  """A generative model together with its way of learning.

  card: what it is.
  init: (key, batch) -> State.
  step: (state, key, batch) -> (State, metrics), metrics a dict of [] arrays
    with the same keys at every step.
  sample: (model, key, num, *, condition=None) -> [num, ...], or None.
  log_prob: (model, key, x, *, condition=None) -> [B] nats, EXACT only, or None.
  queries: further functions by name; the names stand in this module's text.
  """

  card: Card
  init: Callable[[Array, Batch], State]
  step: Callable[[State, Array, Batch], tuple[State, Metrics]]
  sample: Callable[..., Array] | None
  log_prob: Callable[..., Array] | None
  queries: Mapping[str, Callable]


class Game(NamedTuple):
  """A two-player objective on logits; both functions return [B], minimized.

  Plain games ignore `real_logits` in `generator`; relativistic ones do not.
  """

  generator: Callable[[Array, Array], Array]  # (real_logits, fake_logits)
  discriminator: Callable[[Array, Array], Array]  # (real_logits, fake_logits)


class Transform(NamedTuple):
  """Raw data <-> model space.

  forward: (key, raw) -> x; the key is for dequantization.
  inverse: x -> raw.
  log_det: (key, raw) -> [B] nats, log |d forward / d raw|; 0 for a mass.
  measure: 'mass' or 'density', of what the model is fitted to.
  """

  forward: Callable[[Array, Array], Array]
  inverse: Callable[[Array], Array]
  log_det: Callable[[Array, Array], Array]
  measure: str


def in_model_space(transform: Transform, key: Array, batch: Batch) -> dict:
  """A batch with `x`, and `y` where there is one, in model space.

  Args:
    transform: of the data's record.
    key: of the noise, if there is any; `x` has it as it is, so that
      `transform.log_det(key, raw)` is about the same noise.
    batch: raw data by batch key; what is neither `x` nor `y` stays as it is.
  """
  keys = {'x': key, 'y': jax.random.fold_in(key, 1)}
  return {
    name: transform.forward(keys[name], value) if name in keys else value
    for name, value in batch.items()
  }


class DataSpec(NamedTuple):
  """What a method may know about its data."""

  shape: tuple[int, ...]  # of one example, in model space
  dtype: Any  # in model space
  num_levels: int | None  # digits 17, 8-bit images 256, None if continuous
  num_classes: int | None
  num_train: int | None  # None: drawn afresh for ever
  transform: Transform


class Phase(NamedTuple):
  """One stage of staged training; a plain Method is a single phase."""

  method: Method
  until: int  # the step at which the phase ends
  spec: DataSpec
  enter: Callable[[Array, State, Batch], State] | None  # (key, previous, batch)


def check_unconditional(condition: Any) -> None:
  """Of a `sample` that takes no condition.

  Raises:
    ValueError: there is one.
  """
  if condition is not None:
    raise ValueError('this model is unconditional: condition must be None')
