"""The contract: what a generative method is, and the names everybody uses.

A generative model together with its way of learning is a NamedTuple of pure
functions (`Method`), as an optimizer is in optax. Everything else in the package
either makes one (`methods`), uses one (`training`, `tasks`), or is mathematics that
knows of none (`losses`, `unroll`, `metrics`).

Notation of shapes: B batch, Z latent size, H, W, C image height, width and channels,
T sequence length, D event size, K number of classes or components, P patches. Keys are
typed (`jax.random.key`), passed and never stored. Log-densities are in nats per
example. Defaults are immutable.
"""

import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax

Array = jax.Array
PyTree = Any
Params = Any
Batch = Mapping[str, Array]
Metrics = Mapping[str, Array]
NOTHING: Mapping = types.MappingProxyType({})

# Batch keys: data, data of a second domain, int class, tokens, what a model is
# conditioned on, True where observed, int domain.
BATCH_KEYS = ('x', 'y', 'label', 'text', 'condition', 'mask', 'domain')
# Collections of `State.extra`. The first are averaged together with the parameters.
AVERAGED = ('batch_stats', 'codebook')
LOCAL = 'local'  # what each device has of its own under pmap: pools, replay buffers
FROZEN = 'frozen'  # pretrained networks, a `Model` by name
# A metric `diverged_NAME` is 1 where NAME is beyond a limit that the method was given,
# which `training` treats as a number that is not finite; else 0.
DIVERGED = 'diverged'


class State(NamedTuple):
  """Everything that training carries from one step to the next."""

  step: Array  # [] int32, completed steps
  params: Params  # trained by gradient; a dict by player where there are several
  extra: dict  # carried, not trained: 'batch_stats', 'spectral', LOCAL, FROZEN, ...
  opt_state: PyTree  # a dict by objective where there are several
  ema: PyTree  # () when off, else 'count', 'params' and the AVERAGED collections


class Model(NamedTuple):
  """All that inference needs."""

  params: Params
  extra: dict


Density = Literal['exact', 'lower_bound', 'estimate', 'unnormalized', 'none']
DensityCost = Literal['one_pass', 'per_dimension', 'ode', 'mcmc', 'none']
Measure = Literal['mass', 'density', 'none']
Sampling = Literal['exact', 'approximate', 'none']
SamplingCost = Literal['one_pass', 'per_dimension', 'iterative', 'mcmc', 'none']
Training = Literal[
  'maximum_likelihood', 'variational', 'adversarial', 'moment_matching', 'denoising',
  'contrastive', 'score_matching', 'regression', 'reconstruction', 'em', 'closed_form',
]  # fmt: skip
Latents = Literal['none', 'continuous', 'discrete', 'data_sized']


class Card(NamedTuple):
  """The kind of a method: whatever prints a number of it is labelled by its card."""

  density: Density  # of `log_prob`, or of the best query when there is none
  density_cost: DensityCost
  measure: Measure  # 'mass' on discrete data
  sampling: Sampling  # whether samples follow the model's own distribution
  sampling_cost: SamplingCost
  training: tuple[Training, ...]
  latents: Latents
  architecture: str  # the restriction in a few words: 'any', 'invertible', 'causal'
  condition: tuple[str, ...] = ()  # batch keys of what samples are conditioned on


class Query(NamedTuple):
  """The signature of a query: (model, key, *arguments, *, condition=None, ...).

  Further keyword-only arguments are options and have defaults; `required` have none.
  """

  arguments: tuple[str, ...]
  returns: str
  required: tuple[str, ...] = ()


# What a method may offer besides `sample` and `log_prob`.
QUERIES: Mapping[str, Query] = types.MappingProxyType({
  'elbo': Query(('x',), '[B] nats, a lower bound of log p(x)'),
  'iwae': Query(('x',), '[B] nats, a tighter lower bound', ('num_samples',)),
  'log_prob_estimate': Query(('x',), '(value [B], standard_error [B]) nats'),
  'energy': Query(('x',), '[B] nats, -log p(x) up to a constant'),
  'log_partition': Query((), '(value [], standard_error []) nats, log Z of the energy'),
  'score': Query(('x', 't'), 'as x, the gradient of log p_t(x)'),
  'encode': Query(('x',), 'latents [B, ...], an array or a tree of arrays'),
  'posterior': Query(('x',), 'a NamedTuple of the parameters [B, ...] of q(z | x)'),
  'decode': Query(('z',), 'as x'),
  'prior': Query(('num',), 'z [num, ...], draws from p(z), as `decode` takes them'),
  'log_prior': Query(('z',), '[B] nats, log p(z)'),
  'reconstruct': Query(('x',), 'as x'),
  'classify': Query(('x',), '[B, C] logits of labels'),
  'cluster': Query(('x',), '[B, K] logits of components'),
  'critic': Query(('x',), '[B] logits, or [B, P] of patches'),
  # Of several styles it has the option `reference`, images [B, ...] in whose style
  'translate': Query(('x',), 'as the domain `condition`: an int, or [B] ints'),
  'impute': Query(('x', 'observed'), '[num, B, ...] completions', ('num',)),
  'sample_info': Query(('num',), '(samples [num, ...], {name: [] or [num, ...]})'),
})  # fmt: skip


class Method(NamedTuple):
  """A generative model together with its way of learning."""

  card: Card
  init: Callable[[Array, Batch], State]  # (key, batch) -> State
  # (state, key, batch) -> (State, metrics: dict of [], the same keys at every step)
  step: Callable[[State, Array, Batch], tuple[State, Metrics]]
  # (model, key, num, *, condition=None, **options) -> [num, ...], or None. Options of
  # sampling (steps, guidance, temperature) are keyword-only and have defaults.
  sample: Callable[..., Array] | None = None
  # (model, key, x, *, condition=None) -> [B] nats, EXACT only, or None
  log_prob: Callable[..., Array] | None = None
  queries: Mapping[str, Callable] = NOTHING  # by the names of QUERIES


class Game(NamedTuple):
  """A two-player objective on logits; both return the logits' shape, minimized.

  Plain games ignore `real_logits` in `generator`; relativistic ones do not.
  """

  generator: Callable[[Array, Array], Array]  # (real_logits, fake_logits)
  discriminator: Callable[[Array, Array], Array]  # (real_logits, fake_logits)


class Transform(NamedTuple):
  """Raw data <-> model space."""

  forward: Callable[[Array, Array], Array]  # (key, raw) -> x; noise dequantizes
  inverse: Callable[[Array], Array]  # x -> raw
  # (key, raw) -> [B] nats, log |d forward / d raw|; 0 for a mass
  log_det: Callable[[Array, Array], Array]
  measure: Literal['mass', 'density']  # of what the model is fitted to


class Part(NamedTuple):
  """One array of a batch beside x: its own space."""

  shape: tuple[int, ...]  # of one example, in model space
  dtype: Any  # in model space
  num_levels: int | None  # None if continuous
  transform: Transform


class DataSpec(NamedTuple):
  """All that a method may know about its data."""

  shape: tuple[int, ...]  # of one example, in model space
  dtype: Any  # in model space
  num_levels: int | None  # digits 17, 8-bit images 256, None if continuous
  num_classes: int | None
  num_train: int | None  # None: drawn afresh for ever
  transform: Transform
  parts: Mapping[str, Part] = NOTHING  # by batch key: 'y', 'text', 'condition', ...


class Phase(NamedTuple):
  """One stage of staged training; a plain Method is a single phase.

  `spec` is the phase's own: where its transform differs from the data's, batches of
  the data are taken to its model space, as smaller images when a network grows.
  """

  method: Method
  until: int  # the step at which the phase ends
  spec: DataSpec
  # (key, previous State or Model or None, batch) -> State; None carries the State on
  enter: Callable[[Array, Any, Batch], State] | None = None
  batch_size: int | None = None  # None: the run's
  previous: Model | None = None  # of another run; what a first phase's `enter` gets


class Result(NamedTuple):
  """The findings of a task or an evaluation about a model.

  Every number has a kind, as 'exact', 'lower bound of log p' or 'estimate, N = 2000'.
  """

  values: Mapping[str, tuple[Array, str]]  # {name: (number [], kind)}
  arrays: Mapping[str, Array] = NOTHING  # {name: [...]}
