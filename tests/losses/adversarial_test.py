"""Adversarial games against closed forms, quadrature and finite differences."""

import doctest
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from gm_jax import base
from gm_jax.losses import adversarial

GAMES = {
  'minimax': adversarial.MINIMAX,
  'non_saturating': adversarial.NON_SATURATING,
  'least_squares': adversarial.LEAST_SQUARES,
  'hinge': adversarial.HINGE,
  'wasserstein': adversarial.WASSERSTEIN,
  'relativistic': adversarial.RELATIVISTIC,
  'relativistic_average': adversarial.RELATIVISTIC_AVERAGE,
  'smoothed_minimax': adversarial.one_sided_label_smoothing(adversarial.MINIMAX, 0.1),
  'smoothed_least_squares': adversarial.one_sided_label_smoothing(
    adversarial.LEAST_SQUARES, 0.1
  ),
}
PLAIN = ('minimax', 'non_saturating', 'least_squares', 'hinge', 'wasserstein')
LOSSES = [(name, side) for name in GAMES for side in ('generator', 'discriminator')]

# As the papers write them, in float64: (generator, discriminator) of (r, f).
_log_d, _log_not_d = special.log_expit, lambda x: special.log_expit(-x)
BY_HAND = {
  'minimax': (lambda r, f: _log_not_d(f), lambda r, f: -_log_d(r) - _log_not_d(f)),
  'non_saturating': (
    lambda r, f: -_log_d(f),
    lambda r, f: -_log_d(r) - _log_not_d(f),
  ),
  'least_squares': (lambda r, f: (f - 1) ** 2, lambda r, f: (r - 1) ** 2 + f**2),
  'hinge': (
    lambda r, f: -f,
    lambda r, f: np.maximum(0, 1 - r) + np.maximum(0, 1 + f),
  ),
  'wasserstein': (lambda r, f: -f, lambda r, f: f - r),
  'relativistic': (lambda r, f: -_log_d(f - r), lambda r, f: -_log_d(r - f)),
  'relativistic_average': (
    lambda r, f: -_log_d(f - r.mean()) - _log_not_d(r - f.mean()),
    lambda r, f: -_log_d(r - f.mean()) - _log_not_d(f - r.mean()),
  ),
  'smoothed_minimax': (
    lambda r, f: _log_not_d(f),
    lambda r, f: -0.9 * _log_d(r) - 0.1 * _log_not_d(r) - _log_not_d(f),
  ),
  'smoothed_least_squares': (
    lambda r, f: (f - 1) ** 2,
    lambda r, f: (r - 0.9) ** 2 + f**2 + 1 - 0.9**2,
  ),
}


def _logits(num=6, scale=3.0):
  rng = np.random.default_rng(0)
  return scale * rng.normal(size=num), scale * rng.normal(size=num)


@pytest.mark.parametrize(('name', 'side'), LOSSES)
def test_value_is_the_papers_formula_also_under_jit(name, side):
  r, f = _logits()
  loss = getattr(GAMES[name], side)
  expected = BY_HAND[name][side == 'discriminator'](r, f)
  value = loss(jnp.array(r), jnp.array(f))
  np.testing.assert_allclose(value, expected, rtol=2e-5, atol=2e-6)
  np.testing.assert_allclose(
    jax.jit(loss)(jnp.array(r), jnp.array(f)), value, rtol=1e-6, atol=1e-6
  )


@pytest.mark.parametrize(('name', 'side'), LOSSES)
def test_batch_of_one_under_vmap_is_the_batch(name, side):
  if name == 'relativistic_average':
    pytest.skip('batch-coupled')
  r, f = (jnp.array(a) for a in _logits())
  loss = getattr(GAMES[name], side)
  singles = jax.vmap(loss)(r[:, None], f[:, None])[:, 0]
  np.testing.assert_allclose(singles, loss(r, f), rtol=1e-6)


def test_relativistic_average_is_coupled_through_the_batch():
  loss = adversarial.RELATIVISTIC_AVERAGE.discriminator
  r, f = jnp.array([1.0, 2.0]), jnp.array([0.0, 0.5])
  moved = loss(r, f.at[1].add(1.0)) - loss(r, f)
  assert abs(float(moved[0])) > 1e-2


@pytest.mark.parametrize(('name', 'side'), LOSSES)
def test_gradient_is_the_finite_difference(name, side):
  loss = getattr(GAMES[name], side)
  with jax.enable_x64(True):
    logits = jnp.stack([jnp.array(a) for a in _logits()])
    assert logits.dtype == jnp.float64

    def total(x):
      return (loss(x[0], x[1]) * jnp.arange(1.0, 7.0)).sum()

    gradient = jax.grad(total)(logits)
    for i in np.ndindex(logits.shape):
      step = 1e-5
      up, down = total(logits.at[i].add(step)), total(logits.at[i].add(-step))
      np.testing.assert_allclose(gradient[i], (up - down) / (2 * step), atol=1e-5)


@pytest.mark.parametrize(('name', 'side'), LOSSES)
@pytest.mark.parametrize('real', [-1e4, 1e4])
@pytest.mark.parametrize('fake', [-1e4, 1e4])
def test_extreme_logits_give_finite_values_and_gradients(name, side, real, fake):
  loss = getattr(GAMES[name], side)
  r, f = jnp.array([real, real]), jnp.array([fake, 0.0])
  value, gradient = jax.value_and_grad(lambda a: loss(*a).sum())((r, f))
  assert jnp.isfinite(value)
  assert all(jnp.isfinite(g).all() for g in gradient)
  expected = BY_HAND[name][side == 'discriminator'](np.array(r, float), np.array(f))
  np.testing.assert_allclose(loss(r, f), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(('name', 'side'), LOSSES)
def test_logits_of_patches_give_the_mean_over_them(name, side):
  loss = getattr(GAMES[name], side)
  r, f = np.random.default_rng(0).normal(size=(2, 4, 3, 2)).astype(np.float32)
  # To the game every patch is an example: averages over the batch are over patches too.
  expected = loss(r.ravel(), f.ravel()).reshape(4, 6).mean(axis=1)
  np.testing.assert_allclose(loss(r, f), expected, rtol=1e-6)
  np.testing.assert_allclose(
    loss(r.reshape(4, 6), f.reshape(4, 6)), expected, rtol=1e-6
  )
  column = loss(r[:, 0, :1], f[:, 0, :1])
  np.testing.assert_allclose(column, loss(r[:, 0, 0], f[:, 0, 0]), rtol=1e-6)


@pytest.mark.parametrize(('name', 'side'), LOSSES)
def test_wrong_shapes_raise_and_name_the_argument(name, side):
  loss = getattr(GAMES[name], side)
  good = jnp.zeros(3)
  with pytest.raises(ValueError, match=r'(real|fake)_logits must be \[B\]'):
    loss(good[:, None], good)
  with pytest.raises(ValueError, match=r'(real|fake)_logits must be \[B\]'):
    loss(good, good[:, None])
  with pytest.raises(ValueError, match='same B'):
    loss(good, jnp.zeros(4))
  with pytest.raises(ValueError, match='same B'):
    jax.jit(loss)(good, jnp.zeros(1))


@pytest.mark.parametrize(
  ('name', 'generator', 'discriminator'),
  [
    ('minimax', -np.log(2), 2 * np.log(2)),
    ('non_saturating', np.log(2), 2 * np.log(2)),
    ('least_squares', 1.0, 1.0),
    ('hinge', 0.0, 2.0),
    ('wasserstein', 0.0, 0.0),
    ('relativistic', np.log(2), np.log(2)),
    ('relativistic_average', 2 * np.log(2), 2 * np.log(2)),
  ],
)
def test_value_at_indifference(name, generator, discriminator):
  zero = jnp.zeros(4)
  np.testing.assert_allclose(GAMES[name].generator(zero, zero), generator, rtol=1e-6)
  np.testing.assert_allclose(
    GAMES[name].discriminator(zero, zero), discriminator, rtol=1e-6
  )


def _quadrature(mean, std):
  """Nodes, and weights under p = N(0, 1) and q = N(mean, std)."""
  x = np.linspace(-12, 16, 200_001)
  p, q = stats.norm.logpdf(x), stats.norm.logpdf(x, mean, std)
  return p, q, x[1] - x[0]


@pytest.mark.parametrize(
  ('mean', 'std', 'jensen_shannon'),
  [(1.0, 1.0, 0.111421), (2.0, 0.5, 0.474307), (6.0, 0.3, 0.693140)],
)
def test_minimax_at_the_optimal_critic_is_the_jensen_shannon_divergence(
  mean, std, jensen_shannon
):
  # Goodfellow et al. 2014, theorem 1, on Gaussians; the values by quadrature.
  log_p, log_q, width = _quadrature(mean, std)
  with jax.enable_x64(True):
    logits = jnp.array(log_p - log_q)
    zero = jnp.zeros_like(logits)
    ln2 = np.log(2)
    on_real = adversarial.MINIMAX.discriminator(logits, zero) - ln2
    on_fake = adversarial.MINIMAX.discriminator(zero, logits) - ln2
    loss = (np.exp(log_p) * on_real + np.exp(log_q) * on_fake).sum() * width
  np.testing.assert_allclose(-loss, 2 * jensen_shannon - np.log(4), atol=3e-6)


def test_each_discriminator_is_stationary_at_its_optimal_critic():
  # At one x of densities p and q the expected loss is p a(T) + q b(T).
  p, q = 0.7, 0.2
  optima = {
    'minimax': np.log(p / q),
    'least_squares': p / (p + q),
    'hinge': 1.0,
  }
  grid = jnp.linspace(-3.0, 3.0, 6001)
  zero = jnp.zeros_like(grid)
  for name, optimum in optima.items():
    d = GAMES[name].discriminator
    expected = p * (d(grid, zero) - d(zero, zero)) + q * d(zero, grid)
    np.testing.assert_allclose(grid[expected.argmin()], optimum, atol=2e-3)


def test_hinge_at_its_optimal_critic_is_the_total_variation():
  log_p, log_q, width = _quadrature(1.0, 1.0)
  best = jnp.sign(jnp.array(log_p - log_q))
  zero = jnp.zeros_like(best)
  d = adversarial.HINGE.discriminator
  on_real, on_fake = d(best, zero) - 1, d(zero, best) - 1
  loss = (np.exp(log_p) * on_real + np.exp(log_q) * on_fake).sum() * width
  total_variation = 2 * stats.norm.cdf(0.5) - 1
  np.testing.assert_allclose(loss, 2 - 2 * total_variation, atol=1e-3)


def test_minimax_saturates_and_non_saturating_does_not():
  rejected = jnp.array([-30.0])

  def slope(game):
    return jax.grad(lambda f: game.generator(f, f)[0])(rejected)[0]

  assert abs(float(slope(adversarial.MINIMAX))) < 1e-12
  np.testing.assert_allclose(slope(adversarial.NON_SATURATING), -1.0, rtol=1e-6)
  # Both push up, with the derivatives -D and D - 1.
  f = jnp.array([0.4])
  sigmoid = 1 / (1 + np.exp(-0.4))

  def slope(game):
    return jax.grad(lambda f: game.generator(f, f)[0])(f)[0]

  np.testing.assert_allclose(slope(adversarial.MINIMAX), -sigmoid, rtol=1e-6)
  np.testing.assert_allclose(slope(adversarial.NON_SATURATING), sigmoid - 1, rtol=1e-6)


def test_non_saturating_gradient_is_that_of_reverse_kl_less_two_jensen_shannon():
  # Arjovsky and Bottou 2017, theorem 2.5, for q = N(m, 1) against p = N(0, 1):
  # the critic is held at its optimum while the samples x = m + e move with m.
  mean = 0.8
  e = np.linspace(-10, 10, 40_001)
  weight = stats.norm.pdf(e) * (e[1] - e[0])

  def objective(m):  # KL(q || p) - 2 JSD(p, q)
    log_p, log_q, width = _quadrature(m, 1.0)
    mixture = np.logaddexp(log_p, log_q) - np.log(2)
    jensen = np.exp(log_p) * (log_p - mixture) + np.exp(log_q) * (log_q - mixture)
    return m**2 / 2 - jensen.sum() * width

  with jax.enable_x64(True):

    def loss(m):
      logits = mean**2 / 2 - mean * (m + jnp.array(e))  # log p - log q
      return adversarial.NON_SATURATING.generator(logits, logits) @ weight

    gradient = jax.grad(loss)(mean)
  difference = (objective(mean + 1e-4) - objective(mean - 1e-4)) / 2e-4
  np.testing.assert_allclose(gradient, difference, atol=1e-6)


@pytest.mark.parametrize('name', PLAIN)
def test_plain_generators_ignore_real_logits(name):
  r, f = (jnp.array(a) for a in _logits())
  generator = GAMES[name].generator
  np.testing.assert_array_equal(generator(r, f), generator(-2 * r, f))


def test_relativistic_games_swap_roles_and_ignore_a_common_shift():
  r, f = (jnp.array(a) for a in _logits())
  for name in ('relativistic', 'relativistic_average'):
    game = GAMES[name]
    np.testing.assert_allclose(game.generator(r, f), game.discriminator(f, r))
    np.testing.assert_allclose(
      game.discriminator(r + 3, f + 3), game.discriminator(r, f), rtol=1e-5
    )


def test_smoothing_moves_the_optimal_critic_and_leaves_the_generator():
  # Salimans et al. 2016, section 3.4: D = (1 - s) p / (p + q).
  s, p, q = 0.2, 0.7, 0.2
  game = adversarial.one_sided_label_smoothing(adversarial.LEAST_SQUARES, s)
  grid = jnp.linspace(-1.0, 2.0, 3001)
  zero = jnp.zeros_like(grid)
  expected = p * game.discriminator(grid, zero) + q * game.discriminator(zero, grid)
  np.testing.assert_allclose(grid[expected.argmin()], (1 - s) * p / (p + q), atol=1e-3)
  assert game.generator is adversarial.LEAST_SQUARES.generator


def test_smoothing_of_zero_changes_nothing_and_hinge_is_the_mixture_of_labels():
  r, f = (jnp.array(a) for a in _logits())
  smooth = adversarial.one_sided_label_smoothing
  np.testing.assert_array_equal(
    smooth(adversarial.HINGE, 0.0).discriminator(r, f),
    adversarial.HINGE.discriminator(r, f),
  )
  mixture = 0.75 * jax.nn.relu(1 - r) + 0.25 * jax.nn.relu(1 + r) + jax.nn.relu(1 + f)
  np.testing.assert_allclose(
    smooth(adversarial.HINGE, 0.25).discriminator(r, f), mixture, rtol=1e-5, atol=1e-6
  )


@pytest.mark.parametrize('smoothing', [-0.1, 1.0, float('nan')])
def test_smoothing_out_of_range_raises(smoothing):
  with pytest.raises(ValueError, match='smoothing'):
    adversarial.one_sided_label_smoothing(adversarial.MINIMAX, smoothing)


@pytest.mark.parametrize(
  'name', ['relativistic', 'relativistic_average', 'wasserstein']
)
def test_smoothing_a_game_without_labels_raises(name):
  with pytest.raises(ValueError, match='smoothing needs a game'):
    adversarial.one_sided_label_smoothing(GAMES[name], 0.1)


def test_smoothing_can_be_made_inside_jit():
  @jax.jit
  def loss(r, f):
    game = adversarial.one_sided_label_smoothing(adversarial.MINIMAX, 0.1)
    return game.discriminator(r, f)

  r, f = (jnp.array(a) for a in _logits())
  expected = GAMES['smoothed_minimax'].discriminator(r, f)
  np.testing.assert_allclose(loss(r, f), expected, rtol=1e-6)


def test_docstring_examples():
  assert doctest.testmod(adversarial).failed == 0
  assert doctest.testmod(adversarial).attempted > 0


@pytest.mark.drill
def test_import_needs_no_framework():
  code = (
    'import sys\nfrom gm_jax.losses import adversarial\n'
    'heavy = {"flax", "optax", "orbax", "sklearn", "tensorflow", "matplotlib"}\n'
    'print(sorted(heavy & set(sys.modules)))'
  )
  run = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert run.stdout.strip() == '[]'


def test_games_are_games():
  assert all(isinstance(game, base.Game) for game in GAMES.values())
