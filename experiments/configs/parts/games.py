"""Games, divergences, penalties and unrollings by the names that leaves have."""

from collections.abc import Callable

from experiments.configs.parts import runs
from gm_jax import base, unroll
from gm_jax.losses import adversarial, f_divergence, penalties

GAMES = {
  'minimax': adversarial.MINIMAX,
  'non_saturating': adversarial.NON_SATURATING,
  'least_squares': adversarial.LEAST_SQUARES,
  'hinge': adversarial.HINGE,
  'wasserstein': adversarial.WASSERSTEIN,
  'relativistic': adversarial.RELATIVISTIC,
  'relativistic_average': adversarial.RELATIVISTIC_AVERAGE,
}
DIVERGENCES = {
  'total_variation': f_divergence.TOTAL_VARIATION,
  'kl': f_divergence.KL,
  'reverse_kl': f_divergence.REVERSE_KL,
  'pearson': f_divergence.PEARSON,
  'neyman': f_divergence.NEYMAN,
  'squared_hellinger': f_divergence.SQUARED_HELLINGER,
  'jeffrey': f_divergence.JEFFREY,
  'jensen_shannon': f_divergence.JENSEN_SHANNON,
  'gan': f_divergence.GAN,
}
DIVERGENCE_FAMILIES = {
  'alpha': f_divergence.alpha,
  'weighted_jensen_shannon': f_divergence.weighted_jensen_shannon,
}
F_GENERATORS = {
  'saddle': f_divergence.saddle_generator,
  'trick': f_divergence.trick_generator,
}
UNROLLS = {
  'full': unroll.full,
  'partial': unroll.partial,
  'truncated_2': unroll.truncated(2),
}


def game(config) -> base.Game:
  """The game named by `game`, its real labels smoothed by `label_smoothing`."""
  chosen = runs.choose(GAMES, config.game, 'game')
  if not config.get('label_smoothing', 0.0):
    return chosen
  return adversarial.one_sided_label_smoothing(chosen, config.label_smoothing)


def divergence(config) -> f_divergence.Divergence:
  """The f-divergence named by `divergence`, of a table or a family, as alpha_0.5."""
  family, _, number = config.divergence.rpartition('_')
  if family not in DIVERGENCE_FAMILIES:
    families = {f'{name}_NUMBER': None for name in DIVERGENCE_FAMILIES}
    return runs.choose({**DIVERGENCES, **families}, config.divergence, 'divergence')
  try:
    return DIVERGENCE_FAMILIES[family](float(number))
  except ValueError as error:
    raise ValueError(f'divergence = {config.divergence!r}: {error}') from error


def f_generator(config) -> Callable:
  """The generator's side of an f-divergence that `generator` names."""
  return runs.choose(F_GENERATORS, config.generator, 'generator')


def unrolling(config) -> Callable:
  """The derivative through inner steps that `unroll_fn` names."""
  return runs.choose(UNROLLS, config.unroll_fn, 'unroll_fn')


def weighted(penalty: Callable, weight: float, leaf: str) -> Callable | None:
  """(critic, key, real, fake) -> weight * penalty, or None of weight 0."""
  if weight < 0:
    raise ValueError(f'{leaf} must be >= 0, got {weight}')
  if weight == 0:
    return None
  return lambda critic, key, real, fake: weight * penalty(critic, key, real, fake)


def r1(gamma: float) -> Callable | None:
  """gamma / 2 times the squared gradient norm at real images, or None."""
  return weighted(
    lambda critic, key, real, fake: penalties.r1(critic, real) / 2, gamma, 'r1_gamma'
  )


def r1_r2(gamma: float) -> Callable | None:
  """gamma / 2 times the squared gradient norms at real and at fake images, or None."""
  return weighted(
    lambda critic, key, real, fake: penalties.r1_r2(critic, real, fake) / 2,
    gamma,
    'gamma',
  )
