"""What the theory of adversarial learning says, in tables that are computed.

Three tables: which laws of a distance each discrepancy keeps, with a counter-example
where one fails; the gradient that each gives on two parallel lines; the value of the
game at the best discriminator against 2 JSD - ln 4. And the slips of a lecture that
many have copied, each beside the test that shows it.
"""

import functools
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gm_jax import theory
from gm_jax.losses import discrepancy, divergence, f_divergence
from gm_jax.training import plots, report

# Chances in eighths at the points 0, 1, 2, 3 of the line.
TABLES = (
  (8, 0, 0, 0), (0, 8, 0, 0), (0, 0, 0, 8), (4, 4, 0, 0), (2, 2, 2, 2),
  (1, 5, 1, 1), (5, 1, 1, 1), (1, 1, 1, 5), (3, 3, 1, 1), (6, 1, 1, 0),
)  # fmt: skip
LAWS = ('D >= 0', 'D = 0 iff p = q', 'symmetric', 'triangle')
STD = 1.0  # of the Gaussian kernel
ERRATA = (
  (
    'V(G, D*) = JSD - ln 4',
    'V(G, D*) = 2 JSD - ln 4',
    'theory_test.py::test_value_at_the_optimum_is_two_jsd_minus_ln_4',
  ),
  (
    'H(X) = sum p ln p',
    'H(X) = -sum p ln p',
    'theory_test.py::test_entropy_has_its_minus',
  ),
  (
    'a table of one RGB pixel has 255^3 parameters',
    '256^3 - 1 = 16,777,215',
    'theory_test.py::test_parameters_of_one_rgb_pixel',
  ),
  (
    'JSD is bounded, hence more stable',
    'it saturates: gradient 0 on parallel lines',
    'theory_test.py::test_bounded_divergences_saturate_on_parallel_lines',
  ),
)
# Two Gaussians on a grid, and disjoint tables, for the value of the game.
PAIRS = (
  ('N(0, 1), N(1, 1)', (0, 1), (1, 1)),
  ('N(0, 1), N(2, 0.5^2)', (0, 1), (2, 0.5)),
  ('N(0, 1), N(6, 0.3^2)', (0, 1), (6, 0.3)),
  ('N(0, 1), N(0, 1)', (0, 1), (0, 1)),
)


def samples(table) -> jax.Array:
  """[8, 1] points on the line that have the table's chances."""
  return jnp.repeat(jnp.arange(4.0), table, total_repeat_length=8)[:, None]


def _of_samples(fn):
  """A discrepancy of tables, from one of samples."""
  return lambda p, q: fn(samples(p), samples(q))


def _of_chances(fn):
  return lambda p, q: fn(p / 8.0, q / 8.0)


def _root(fn):
  return lambda p, q: jnp.sqrt(jnp.maximum(fn(p, q), 0.0))


def _wasserstein(power):
  return _of_samples(
    lambda x, y: discrepancy.wasserstein_1d(x[:, 0], y[:, 0], power=power)
  )


def _f(one):
  return _of_chances(functools.partial(f_divergence.evaluate, one))


_mmd2 = _of_samples(
  functools.partial(discrepancy.mmd2_biased, discrepancy.gaussian(std=STD))
)
_sinkhorn = functools.partial(
  discrepancy.sinkhorn_divergence, epsilon=1.0, num_iterations=300
)
_entropic = functools.partial(
  discrepancy.entropic_transport, epsilon=1.0, num_iterations=300
)
DISCREPANCIES = {
  'total variation': _of_chances(divergence.total_variation),
  'KL(p || q)': _of_chances(divergence.kl),
  'KL(q || p)': _f(f_divergence.REVERSE_KL),
  'Jeffrey': _f(f_divergence.JEFFREY),
  'Pearson chi^2': _f(f_divergence.PEARSON),
  'Neyman chi^2': _f(f_divergence.NEYMAN),
  'JSD': _of_chances(divergence.jensen_shannon),
  'root of JSD': _root(_of_chances(divergence.jensen_shannon)),
  'squared Hellinger': _of_chances(divergence.squared_hellinger),
  'Hellinger': _root(_of_chances(divergence.squared_hellinger)),
  'V(G, D*)': _of_chances(
    lambda p, q: theory.gan_value(p, q, theory.optimal_logit(p, q))
  ),
  'W1': _wasserstein(1.0),
  'W2^2': _wasserstein(2.0),
  'W2': _root(_wasserstein(2.0)),
  'MMD^2, Gaussian kernel': _mmd2,
  'MMD, Gaussian kernel': _root(_mmd2),
  'MMD, linear kernel': _root(
    _of_samples(
      functools.partial(
        discrepancy.mmd2_biased, discrepancy.polynomial(degree=1, scale=1.0)
      )
    )
  ),
  'energy distance': _of_samples(discrepancy.energy_distance),
  'root of the energy distance': _root(_of_samples(discrepancy.energy_distance)),
  'entropic transport': _of_samples(_entropic),
  'Sinkhorn divergence': _of_samples(_sinkhorn),
}


def axioms() -> list[list[str]]:
  """A row a discrepancy: 'holds', or the counter-example, an axiom."""
  rows = []
  with jax.enable_x64(True):
    tables = jnp.array(TABLES)
    for name, one in DISCREPANCIES.items():
      pairs = jax.vmap(jax.vmap(one, (None, 0)), (0, None))
      found = theory.axioms(jax.jit(pairs)(tables, tables))
      named = zip(theory.Axioms._fields, found, strict=True)
      rows.append([name, *(_verdict(axiom, failure) for axiom, failure in named)])
  return rows


def _verdict(axiom, failure) -> str:
  if failure is None:
    return 'holds'
  *where, size = failure
  tables = ' '.join(''.join(map(str, TABLES[i])) for i in where)
  if axiom == 'identity' and where[0] != where[1]:
    return f'fails, D = 0: {tables}'
  return f'fails by {size:.3g}: {tables}'


def line(theta, num: int = 64) -> jax.Array:
  """[num, 2] points of the unit segment at height theta, evenly."""
  height = (jnp.arange(num) + 0.5) / num
  return jnp.stack([jnp.full(num, theta), height], axis=1)


def _of_densities(fn, std, num=4000):  # even: no point where the two cross
  """A divergence of two lines as thick as `std`, by quadrature across them.

  Along the lines the two are alike; across, they are N(0, std^2) and N(theta, std^2).
  """

  def value(theta):
    half = jax.lax.stop_gradient(jnp.abs(theta) / 2 + 7.0 * std)
    x = jax.lax.stop_gradient(theta / 2) + half * jnp.linspace(-1.0, 1.0, num)
    p, q = (
      jnp.exp(-jnp.square((x - mean) / std) / 2) / (std * math.sqrt(2 * math.pi))
      for mean in (0.0, theta)
    )
    return fn(p, q, weights=2.0 * half / (num - 1))

  return value


def _value(p, q, **weights):
  return theory.gan_value(p, q, theory.optimal_logit(p, q), **weights)


BETWEEN_DENSITIES = {
  'KL': divergence.kl,
  'JSD': divergence.jensen_shannon,
  'V(G, D*)': _value,
  'total variation': divergence.total_variation,
}
THICKNESS = (0.2, 0.1, 0.05)


def on_lines(thetas) -> dict[tuple[str, float], tuple[np.ndarray, np.ndarray]]:
  """Values and gradients in theta of each objective between two lines.

  By (objective, thickness of the lines); 0 for those that need no density. theta = 0
  is left to the limit.
  """
  x, kernel = line(0.0), discrepancy.gaussian(std=STD)

  def of_samples(fn):
    return lambda theta: fn(x, line(theta))

  def across(power):  # moving every point straight across is the best plan here
    return of_samples(
      lambda x, y: discrepancy.wasserstein_1d(x[:, 0], y[:, 0], power=power)
    )

  sinkhorn = functools.partial(
    discrepancy.sinkhorn_divergence, epsilon=0.01, num_iterations=500
  )
  objectives = {
    (name, std): _of_densities(fn, std)
    for name, fn in BETWEEN_DENSITIES.items()
    for std in THICKNESS
  }
  objectives |= {
    ('W1', 0.0): across(1.0),
    ('W2^2', 0.0): across(2.0),
    ('Sinkhorn, epsilon 0.01', 0.0): of_samples(sinkhorn),
    ('MMD^2, Gaussian kernel', 0.0): of_samples(
      functools.partial(discrepancy.mmd2_biased, kernel)
    ),
    ('energy distance', 0.0): of_samples(discrepancy.energy_distance),
  }
  with jax.enable_x64(True):
    thetas = jnp.asarray(thetas)
    return {
      name: tuple(map(np.asarray, jax.jit(jax.vmap(jax.value_and_grad(fn)))(thetas)))
      for name, fn in objectives.items()
    }


def values() -> list[tuple[str, float, float, float]]:
  """(pair, V(G, D*), 2 JSD - ln 4, JSD) by quadrature."""
  x, rows = np.linspace(-14.0, 14.0, 40_001), []
  step = x[1] - x[0]
  with jax.enable_x64(True):
    for name, first, second in PAIRS:
      p, q = (
        jnp.exp(-(((x - m) / s) ** 2) / 2) / (s * math.sqrt(2 * math.pi))
        for m, s in (first, second)
      )
      v = theory.gan_value(p, q, theory.optimal_logit(p, q), weights=step)
      jsd = divergence.jensen_shannon(p, q, weights=step)
      rows.append((name, float(v), float(2 * jsd - math.log(4)), float(jsd)))
  return rows


def run(*, out: pathlib.Path) -> dict[str, Any]:
  """Prints the tables and draws the values on parallel lines.

  Args:
    out: folder for the picture.

  Returns:
    Every number, ready for JSON, and the printed tables by name.
  """
  print(
    'Laws of a distance, tried on all pairs and triples of ten tables, written as'
    ' eighths at the points 0, 1, 2, 3: 8000 is all mass at 0. No counter-example'
    ' proves nothing. inf - inf counts as 0.'
  )
  laws = axioms()
  tables = {'laws': report.Table(('discrepancy', *LAWS), laws)}
  print(report.text_table(*tables['laws']), '\n')
  print(
    'Two parallel unit segments at a distance of theta = 0.5: the value and its'
    ' gradient in theta. Objectives that need densities see lines as thick as the'
    f' standard deviation given, toward 0. Kernel with std {STD:g}.'
  )
  lines = [
    (name, std, float(value[0]), float(slope[0]))
    for (name, std), (value, slope) in on_lines([0.5]).items()
  ]
  header = ('objective', 'thickness', 'value', 'gradient')
  shown = [(name, std, f'{v:z.6f}', f'{g:z.6f}') for name, std, v, g in lines]
  tables['lines'] = report.Table(header, shown)
  print(report.text_table(*tables['lines']), '\n')
  game = values()
  print('The game at the best discriminator, by quadrature, nats.')
  shown = [(n, *(f'{v:.6f}' for v in row)) for n, *row in game]
  header = ('p, q', 'V(G, D*)', '2 JSD - ln 4', 'JSD')
  tables['game'] = report.Table(header, shown)
  print(report.text_table(*tables['game']), '\n')
  print('Slips of lecture notes, and the test that shows each.')
  tables['errata'] = report.Table(('said', 'right', 'tests/'), ERRATA)
  print(report.text_table(*tables['errata']))
  _draw(out / 'theory.png')
  print(f'picture: {out / "theory.png"}')
  return {'tables': tables, 'lines': lines, 'values': game}


def _draw(path) -> None:
  """Each objective between thin parallel lines as a function of their distance."""
  thetas = np.linspace(-1.5, 1.5, 600)  # 0 is not among them
  drawn = {
    name: (thetas, value)
    for (name, std), (value, _) in on_lines(thetas).items()
    if std in (0.0, min(THICKNESS)) and name != 'KL'
  }
  plots.curves(path, drawn, xlabel='theta', ylabel='value')
