"""In-painting a Gaussian of correlation 0.9, one of its two numbers known to be 1.

The truth is N(0.9, 0.19). What a chain of linear steps comes to is propagated exactly,
in float64, along the list of steps that the paper's own code would make.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import processes, times
from gm_jax.samplers import diffusion, inpainting, particles

C = np.array([[1.0, 0.9], [0.9, 1.0]])
MEAN, VAR = 0.9, 0.19
VP = processes.variance_preserving()
KEY = jax.random.key(0)


def steps_of(process):
  """(denoiser, covariance of x given x_t) of the Gaussian, both exact."""

  def moments(t):
    alpha, sigma = process.alpha(t), process.sigma(t)
    gain = alpha * C @ jnp.linalg.inv(alpha**2 * C + sigma**2 * jnp.eye(2))
    return gain, C - alpha * gain @ C

  return lambda x, t: x @ moments(t[0])[0].T, lambda t: moments(t)[1]


def betas_process(num):
  return processes.from_betas(processes.linear_betas(num))


def transitions(num, jump, resamplings):
  """The levels that the paper's schedule walks through, from `num` down to 0."""
  left = {j + 1: resamplings - 1 for j in range(0, num - jump, jump)}
  levels = [num]
  while levels[-1] > 0:
    levels.append(levels[-1] - 1)
    if left.get(levels[-1], 0):
      left[levels[-1]] -= 1
      levels += [levels[-1] + 1 + i for i in range(jump)]
  return levels


def propagated(num, jump, resamplings, exact=True):
  """Mean and variance of what is not known, by the recursion in float64.

  x_s = alpha_s D + kept e + noise, D = gain x_t; the noise's covariance is that of x_s
  given x_t, or DDPM's smaller one.
  """
  alphas = np.sqrt(np.cumprod(1 - processes.linear_betas(num)))
  alphas = np.concatenate([[1.0], alphas])
  mean, cov = np.zeros(2), np.eye(2)
  levels = transitions(num, jump, resamplings)
  for t, s in zip(levels, levels[1:], strict=False):
    ratio = alphas[max(t, s)] / alphas[min(t, s)]
    if s > t:
      mean, cov = ratio * mean, ratio**2 * cov + (1 - ratio**2) * np.eye(2)
      continue
    mean[0], cov[0], cov[:, 0] = alphas[t], 0.0, 0.0
    cov[0, 0] = 1 - alphas[t] ** 2
    joint = alphas[t] ** 2 * C + (1 - alphas[t] ** 2) * np.eye(2)  # of x_t
    start = alphas[s] ** 2 * C + (1 - alphas[s] ** 2) * np.eye(2)  # of x_s
    move = ratio * start @ np.linalg.inv(joint)  # Cov(x_s, x_t) Cov(x_t)^-1
    noise = start - move @ joint @ move.T
    if not exact:
      noise = (1 - alphas[s] ** 2) * (1 - ratio**2) / (1 - alphas[t] ** 2) * np.eye(2)
    mean, cov = move @ mean, move @ cov @ move.T + noise
  return mean[1], cov[1, 1]


def test_replacement_is_wrong_and_resampling_mends_it_but_for_the_smaller_variance():
  mean, var = propagated(250, 10, 1)
  np.testing.assert_allclose([mean, var], [0.622, 0.315], atol=1e-3)
  assert abs(mean - MEAN) > 0.2
  found = np.array([propagated(250, 10, n) for n in (1, 2, 5, 10, 30)])
  error = np.abs(found - [MEAN, VAR])
  assert (np.diff(error, axis=0) < 0).all()
  assert error[3, 0] < 0.03 and error[3, 1] < 0.02
  np.testing.assert_allclose(found[3], [0.875, 0.203], atol=6e-3)
  # With DDPM's smaller variance more of them lead away from the truth.
  small = [propagated(250, jump, n, False)[1] for jump, n in ((10, 10), (1, 100))]
  np.testing.assert_allclose(small, [0.178, 0.139], atol=2e-3)


def test_the_paper_has_2410_steps_back_and_2160_of_noise():
  change = np.diff(transitions(250, 10, 10))
  assert (change == -1).sum() == 2410 and (change == 1).sum() == 2160
  for sizes in ((250, 10, 10), (30, 5, 3), (7, 7, 4), (8, 7, 4), (1, 1, 2), (9, 1, 5)):
    expected = (np.diff(transitions(*sizes)) == -1).sum()
    num, jump, again = sizes
    found = inpainting.num_evaluations(num, jump=jump, resamplings=again)
    assert found == expected, sizes


def evidence(num, mask=(True, False), value=1.0):
  observed = jnp.broadcast_to(jnp.array(mask), (num, 2))
  return {'known': jnp.full((num, 2), value), 'observed': observed}


def painted(key, num_steps, size, process, *, exact=True, **options):
  denoise, covariance = steps_of(process)
  start, key = jax.random.split(key)
  x = diffusion.noise(process, start, (size, 2))
  return inpainting.repaint(
    denoise, process, key, x, times.even(process), num_steps, **evidence(size),
    covariance=covariance if exact else None, **options,
  )  # fmt: skip


def test_repaint_makes_the_steps_of_the_papers_schedule():
  """Times at which the denoiser is called: each is one step back from there."""
  seen = []

  def denoise(x, t):
    jax.debug.callback(lambda t: seen.append(float(t[0])), t, ordered=True)
    return 0 * x

  run = jax.jit(lambda num, jump, again: inpainting.repaint(
    denoise, VP, KEY, jnp.zeros((1, 2)), times.even(VP), num, **evidence(1),
    jump=jump, resamplings=again,
  ))  # fmt: skip
  # One program, in which the numbers are traced, does for all.
  for sizes in ((20, 3, 3), (12, 5, 2), (4, 10, 3), (1, 1, 2), (6, 1, 4)):
    seen.clear()
    jax.block_until_ready(run(*sizes))
    jax.effects_barrier()
    levels = np.array(transitions(*sizes))
    before = levels[:-1][np.diff(levels) < 0]
    np.testing.assert_allclose(np.array(seen) * sizes[0], before, rtol=1e-5)


slow = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.parametrize('exact', [True, False])
def test_repaint_has_the_moments_of_its_steps(exact):
  sizes, size = (30, 5, 3), 20_000
  options = {'jump': sizes[1], 'resamplings': sizes[2], 'exact': exact}
  run = jax.jit(lambda key: painted(key, 30, size, betas_process(30), **options))
  x = np.asarray(run(KEY), np.float64)
  np.testing.assert_array_equal(x[:, 0], 1.0)
  mean, var = propagated(*sizes, exact)
  assert abs(mean - MEAN) > 0.03  # the steps', not the truth
  assert abs(x[:, 1].mean() - mean) < 4 * np.sqrt(var / size)
  assert abs(x[:, 1].var() / var - 1) < 4 * np.sqrt(2 / size)


@slow
@pytest.mark.parametrize('resamplings', [1, 10])
def test_repaint_at_the_papers_size(resamplings):
  size, process = 4000, betas_process(250)
  run = jax.jit(lambda key: painted(key, 250, size, process, resamplings=resamplings))
  x = np.asarray(run(KEY), np.float64)[:, 1]
  mean, var = propagated(250, 10, resamplings)
  assert abs(x.mean() - mean) < 4 * np.sqrt(var / size)
  assert abs(x.var() / var - 1) < 4 * np.sqrt(2 / size)


def weighted(found):
  """Means of x and x^2 of the unknown number, with standard errors over filters."""
  weights, x = np.exp(found.log_weights), np.asarray(found.x[..., 1], np.float64)
  each = [(weights * x**power).sum(axis=0) for power in (1, 2)]
  return [(a.mean(), a.std() / np.sqrt(len(a))) for a in each]


def filtered(num, size):
  """Particles of the exact steps, of which 10 are as right as many."""
  denoise, covariance = steps_of(VP)

  def run(key):
    start, key = jax.random.split(key)
    x = diffusion.noise(VP, start, (num, size, 2))
    return particles.particles(
      denoise, VP, key, x, times.even_log_snr(VP), 10, **evidence(size),
      covariance=covariance,
    )  # fmt: skip

  return jax.jit(run)(KEY)


@pytest.mark.slow
def test_many_particles_are_draws_from_the_truth():
  found = filtered(128, 400)
  (mean, error), (square, square_error) = weighted(found)
  assert error < 0.005
  assert abs(mean - MEAN) < 4 * error
  assert abs(square - (VAR + MEAN**2)) < 4 * square_error
  np.testing.assert_allclose(jnp.exp(found.log_weights).sum(axis=0), 1, rtol=1e-5)
  assert (found.effective_size >= 1).all() and (found.effective_size < 128).all()
  one = np.asarray(particles.choose(jax.random.key(1), found))
  assert abs(one[:, 1].mean() - MEAN) < 4 * np.sqrt(VAR / 400)


@slow
def test_few_particles_are_not():
  """One has no weight: what is known moves the rest by the denoiser alone."""
  mean, error = weighted(filtered(1, 400))[0]
  assert mean < MEAN - 5 * error


def mixture(process):
  """Two Gaussians in the plane, and what is known of them by Bayes' rule."""
  centers, weights, var = np.array([[-1.0, -1.0], [1.0, 1.0]]), [0.3, 0.7], 0.3

  def denoise(x_t, t):
    alpha, sigma = process.alpha(t)[0], process.sigma(t)[0]
    total = alpha**2 * var + sigma**2
    away = x_t[:, None] - alpha * centers  # [B, 2, 2]
    logits = jnp.log(jnp.array(weights)) - 0.5 * jnp.square(away).sum(axis=2) / total
    each = centers + alpha * var / total * away
    return jnp.einsum('bk,bkd->bd', jax.nn.softmax(logits), each)

  def truth(known):
    """The mean of the second number given the first, and its variance."""
    logits = np.log(weights) - 0.5 * (known - centers[:, 0]) ** 2 / var
    part = np.exp(logits) / np.exp(logits).sum()
    mean = (part * centers[:, 1]).sum()
    return mean, var + (part * (centers[:, 1] - mean) ** 2).sum()

  return denoise, truth


@slow
def test_particles_find_the_modes_of_a_mixture_that_replacement_does_not():
  """At DDPM's smaller variance, where 200 steps leave an error of some hundredths."""
  denoise, truth = mixture(VP)
  grid, size = times.even_log_snr(VP), 400

  @jax.jit
  def run(key, value):
    start, key = jax.random.split(key)
    x = diffusion.noise(VP, start, (64, size, 2))
    what = evidence(size, value=value)
    found = particles.particles(denoise, VP, key, x, grid, 200, **what)
    x = diffusion.noise(VP, start, (10 * size, 2))
    what = evidence(10 * size, value=value)
    return found, inpainting.replacement(denoise, VP, key, x, grid, 200, **what)

  for value in (-0.4, 0.3):
    found, replaced = run(KEY, value)
    mean, var = truth(value)
    first, second = weighted(found)
    assert abs(first[0] - mean) < 4 * first[1] + 0.03
    assert abs(second[0] - (var + mean**2)) < 4 * second[1] + 0.05
    assert abs(replaced[:, 1].mean() - mean) > 0.1


def painters(process, grid, num_steps):
  """The in-painters of a Gaussian, by name, as (key, x, **what is known) -> x."""
  denoise, _ = steps_of(process)
  rest = grid(process), num_steps

  def filtered(key, x, **what):
    x = jnp.stack([x, -x])
    return particles.particles(denoise, process, key, x, *rest, **what)

  return {
    'ancestral': lambda key, x: diffusion.ancestral(denoise, process, key, x, *rest),
    'replacement': lambda key, x, **what: inpainting.replacement(
      denoise, process, key, x, *rest, **what),
    'repaint': lambda key, x, **what: inpainting.repaint(
      denoise, process, key, x, *rest, jump=2, resamplings=2, **what),
    'particles': filtered,
  }  # fmt: skip


@pytest.mark.slow
def test_all_known_is_kept_and_one_program_does_for_every_mask():
  traced, known = [], jax.random.normal(jax.random.key(1), (4, 2))

  @jax.jit
  def run(key, x, observed):
    traced.append(x)
    each, what = painters(VP, times.even, 6), {'known': known, 'observed': observed}
    found = {name: each[name](key, x, **what) for name in ('replacement', 'repaint')}
    return found | {
      'particles': particles.choose(key, each['particles'](key, x, **what))
    }

  x = diffusion.noise(VP, KEY, (4, 2))
  for out in run(KEY, x, jnp.ones((4, 2), bool)).values():
    np.testing.assert_array_equal(out, known)
  mixed = jnp.array([[True, False], [False, True], [False, False], [True, True]])
  for out in run(KEY, x, mixed).values():
    np.testing.assert_array_equal(out[mixed], known[mixed])
    assert (out != known)[~mixed].all()
  assert len(traced) == 1


LINE, EDM = processes.rectified(), processes.edm()


@pytest.mark.slow
@pytest.mark.parametrize(
  ('process', 'grid'),
  [
    (LINE, times.even),
    pytest.param(VP, times.even, marks=slow),
    pytest.param(EDM, times.karras, marks=slow),
  ],
)
def test_nothing_known_is_plain_sampling(process, grid):
  x = diffusion.noise(process, KEY, (5, 2))
  what = {'known': jnp.full((5, 2), 7.0), 'observed': jnp.zeros((5, 2), bool)}
  each = painters(process, grid, 8)
  plain, found, many = jax.jit(lambda key: (
    each['ancestral'](key, x), each['replacement'](key, x, **what),
    each['particles'](key, x, **what),
  ))(KEY)  # fmt: skip
  np.testing.assert_allclose(found, plain, rtol=2e-4, atol=2e-5)
  # Particles weigh nothing then.
  np.testing.assert_allclose(many.effective_size, 2, rtol=1e-5)
  np.testing.assert_allclose(jnp.exp(many.log_weights), 0.5, rtol=1e-5)
  assert jnp.isfinite(many.x).all()


def test_systematic_draws_are_the_weights_rounded():
  weights = np.array([0.5, 0.26, 0.04, 0.2])
  keys = jax.random.split(KEY, 1000)
  draw = jax.jit(jax.vmap(lambda key: particles.systematic(key, jnp.log(weights))))
  index = np.asarray(draw(keys))
  counts = np.stack([(index == i).sum(axis=1) for i in range(4)])
  assert (counts >= np.floor(4 * weights)[:, None]).all()
  assert (counts <= np.ceil(4 * weights)[:, None]).all()
  np.testing.assert_allclose(counts.mean(axis=1), 4 * weights, atol=0.06)
  sizes = particles.effective_size(
    jnp.log(jnp.array([[0.25, 1.0], [0.25, 1e-30]])[:, :])
  )
  np.testing.assert_allclose(sizes[1], 1.0, rtol=1e-5)


def test_what_cannot_be_painted_is_one_line():
  denoise, _ = steps_of(VP)
  grid, x = times.even(VP), jnp.zeros((3, 2))
  what = evidence(3)
  for change, word in (
    ({'num_steps': 0}, 'num_steps must be >= 1, got 0'),
    ({'jump': 0}, 'jump must be >= 1, got 0'),
    ({'resamplings': 0}, 'resamplings must be >= 1, got 0'),
    ({'observed': jnp.ones((3, 1), bool)}, r'observed must be \[3, 2\].*got \[3, 1\]'),
    ({'known': jnp.ones((2, 2))}, r'known must be \[3, 2\]'),
  ):
    options = {'num_steps': 5, **what, **change}
    num = options.pop('num_steps')
    with pytest.raises(ValueError, match=word) as error:
      inpainting.repaint(denoise, VP, KEY, x, grid, num, **options)
    assert '\n' not in str(error.value)
  with pytest.raises(ValueError, match='num_steps must be >= 1'):
    particles.particles(denoise, VP, KEY, x[None], grid, 0, **what)
