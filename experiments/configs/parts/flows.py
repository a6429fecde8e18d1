"""Flows of a config's leaves: layers of vectors and of images."""

import functools
import math

import numpy as np

from experiments.configs.parts import evaluations, likelihoods, optimizers, runs, specs
from gm_jax import base, bijectors, flow_layers, monotone, priors
from gm_jax.data import dataset, registry
from gm_jax.methods import flow
from gm_jax.models import flows
from gm_jax.tasks import density

OUTSIDE = 0.01  # of the numbers, at most, that a spline leaves as they are
FUNCTIONS = {
  'additive': monotone.additive,
  'affine': monotone.affine,
  'standardization': monotone.standardization,
  'sigmoid_affine': monotone.sigmoid_affine,
}
MATRICES = {'rotation': flow_layers.rotation, 'identity': flow_layers.identity}


def leaves(config, *, layers: str, num_layers: int, width: int):
  """Adds the leaves of a flow of vectors."""
  config.layers = layers  # 'coupling', 'autoregressive', 'inverse', 'planar', 'radial'
  config.function = 'spline'  # or 'affine', 'additive', of the first three
  config.num_layers = num_layers
  config.width = width  # of the networks' hidden layers
  config.num_blocks = 2  # residual, or layers of MADE
  config.num_bins = 8  # pieces of the spline
  config.box = 4.0  # half of its side, in standard deviations of the data
  config.mixing = 'rotation'  # or 'identity': where maps between couplings begin
  return config


def keep_best(config) -> None:
  """Evaluates often and keeps the best checkpoint of the validation split's bound."""
  config.evaluate_every = config.checkpoint_every = 100
  config.best = '-validation_nll_bound'


def function(config) -> monotone.Monotone:
  """The function of each number that `function` names."""

  def spline():
    runs.check_sizes(config, 'num_bins', least=2)
    return monotone.rational_quadratic(config.num_bins, config.box)

  return runs.choose({**FUNCTIONS, 'spline': spline}, config.function, 'function')()


def vector_layers(config, spec) -> bijectors.Bijection:
  """Standardized numbers through `num_layers` maps, mixed between one and the next."""
  runs.check_sizes(config, 'num_layers', 'width', 'num_blocks')
  size, rng = math.prod(spec.shape), np.random.default_rng(config.seed)
  order = rng.permutation(size)

  def coupled():
    make = functools.partial(
      flows.Residual, width=config.width, num_blocks=config.num_blocks
    )
    matrix = runs.choose(MATRICES, config.mixing, 'mixing')
    mixed = flow_layers.linear(order, matrix=matrix)
    return bijectors.chain(mixed, flow_layers.coupling(make, function(config)))

  def autoregressive():
    hidden = (config.width,) * config.num_blocks
    layer = flow_layers.autoregressive(
      size, function(config), hidden=hidden, seed=config.seed
    )
    return bijectors.chain(layer, bijectors.reverse())

  table = {
    'coupling': coupled,
    'autoregressive': autoregressive,
    'inverse': lambda: bijectors.inverted(autoregressive()),
    'planar': flow_layers.planar,
    'radial': flow_layers.radial,
  }
  if config.layers == 'coupling' and size < 2:
    raise ValueError(f'data = {config.data!r} are single numbers; a coupling needs two')
  layer = runs.choose(table, config.layers, 'layers')()
  return bijectors.chain(
    bijectors.flatten(spec.shape),
    flow_layers.actnorm(),
    bijectors.repeated(layer, config.num_layers),
    bijectors.elementwise(monotone.affine()),
  )


def image_layers(config, shape: tuple[int, ...]) -> bijectors.Bijection:
  """Levels of a squeeze, `num_layers` steps and, but for the last, a split.

  A step is an actnorm, a mixing of the channels and a coupling. The channels that a
  split takes away have a normal distribution by those that stay.
  """

  def level(shape, rest):
    shape = (shape[0] // 2, shape[1] // 2, 4 * shape[2])
    make = functools.partial(flows.Convolutions, width=config.width)
    mixes = {
      'linear': flow_layers.linear(np.arange(shape[2])[::-1]),
      'reverse': bijectors.reverse(),
    }
    step = bijectors.chain(
      flow_layers.actnorm(),
      runs.choose(mixes, config.mixing, 'mixing'),
      flow_layers.coupling(make, function(config)),
    )
    found = [bijectors.squeeze(), bijectors.repeated(step, config.num_layers)]
    if rest == 0:
      return bijectors.chain(*found, bijectors.flatten(shape))
    prior = flow_layers.coupling(make, monotone.affine())
    inner = level((*shape[:2], shape[2] // 2), rest - 1)
    return bijectors.chain(*found, prior, bijectors.factored(inner, shape))

  top = bijectors.elementwise(monotone.affine())  # the last level's mean and deviation
  return bijectors.chain(level(shape, config.levels - 1), top)


def check_squeezes(config, spec) -> None:
  """Raises ValueError unless the data are images that can be halved `levels` times."""
  runs.check_images(config, spec)
  runs.check_sizes(config, 'levels', 'num_layers', 'width')
  parts = 2**config.levels
  height, width, _ = spec.shape
  if height % parts or width % parts:
    raise ValueError(
      f'levels = {config.levels} halve the sides as often, and {height} x {width} are'
      f' no multiples of {parts}'
    )


def method(bijection: bijectors.Bijection, config, spec, wrap) -> base.Method:
  """A flow from these layers to a standard normal distribution."""
  likelihoods.check_real(config, spec)
  return flow.flow(
    bijection,
    priors.normal(math.prod(spec.shape)),
    wrap(optimizers.plain_adam(config)),
    shape=spec.shape,
    condition=specs.condition(config, spec),
  )


def check_box(config, data: dataset.Dataset) -> None:
  """Raises ValueError if a spline's box is smaller than the data.

  Of data that an actnorm has standardized, as those of `vector_layers`; 1% of the
  numbers may lie outside, where the spline is the identity.
  """
  if config.get('function') != 'spline' or config.layers not in (
    'coupling',
    'autoregressive',
  ):
    return
  x = dataset.transformed(data.spec, data.arrays('train', 1000))['x']
  x = np.asarray(x).reshape(len(x), -1)
  away = np.abs(x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)
  outside = (away > config.box).mean()
  if outside > OUTSIDE:
    raise ValueError(
      f'box = {config.box:g} standard deviations, and {100 * outside:.0f}% of the'
      f' numbers lie outside: box = {np.quantile(away, 1 - OUTSIDE):.1f} holds 99%'
    )


def densities(config, data) -> evaluations.Evaluation:
  """Likelihoods of data held out; of a known density its own beside them."""
  found = evaluations.likelihoods(config, data)
  known = registry.toy_density(config.data)
  if known is None or known.log_prob is None:
    return found
  splits = evaluations.splits_of(data, {'test': evaluations.HELD_OUT['test']})
  truth = evaluations.bound(density.known_density, data, splits, known=known.log_prob)
  return evaluations.merged(found, truth)


def squeezed(x: base.Array) -> base.Array:
  """Images as `noise_layers` are told them, `[B, H/2, W/2, 4 C]`."""
  return bijectors.squeeze().forward((), x)[0]


def noise_layers(config) -> bijectors.Bijection:
  """Couplings of an image's noise, told the image as `squeezed` makes it."""
  make = functools.partial(flows.Convolutions, width=config.width)
  step = bijectors.chain(
    bijectors.reverse(), flow_layers.coupling(make, monotone.affine())
  )
  layers = bijectors.repeated(step, config.noise_layers)
  back = bijectors.inverted(bijectors.squeeze())
  return bijectors.chain(bijectors.squeeze(), layers, back)
