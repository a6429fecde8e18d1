"""What networks predict: one formula to the data, exactly convertible, and guidance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gm_jax import denoisers, processes

FORMS = {
  'noise': (denoisers.NOISE, lambda p, x, e, t: e),
  'data': (denoisers.DATA, lambda p, x, e, t: x),
  'velocity': (denoisers.VELOCITY, lambda p, x, e, t: p.alpha(t) * e - p.sigma(t) * x),
  'score': (denoisers.SCORE, lambda p, x, e, t: -e / p.sigma(t)),
  'rectified flow': (denoisers.FLOW, lambda p, x, e, t: e - x),
}
PROCESSES = {
  'vp': processes.variance_preserving(),
  'edm': processes.edm(),
  'line': processes.rectified(),
}
T = jnp.array([0.1, 0.5, 0.9])


def pair(seed=0, shape=(3, 4)):
  x, e = jax.random.normal(jax.random.key(seed), (2, *shape))
  return x, e


@pytest.mark.parametrize('process', PROCESSES)
@pytest.mark.parametrize('name', FORMS)
def test_the_target_is_what_its_name_says_and_its_data_are_the_data(name, process):
  if name == 'rectified flow' and process != 'line':
    process = 'line'
  form, define = FORMS[name]
  process, (x, e) = PROCESSES[process], pair()
  x_t = processes.noised(process, x, e, T)
  target = denoisers.target(form, process, x, e, T)
  expected = define(process, x, e, T[:, None])
  np.testing.assert_allclose(target, expected, rtol=2e-5, atol=1e-5)
  found = denoisers.data(form, process, target, x_t, T)
  np.testing.assert_allclose(found, x, rtol=1e-4, atol=2e-4)
  np.testing.assert_allclose(denoisers.noise(process, x, x_t, T), e, atol=1e-4)


def test_the_flow_of_a_process_is_the_derivative_of_a_path():
  """Of one x and one e, x_t moves with alpha' x + sigma' e."""
  process, (x, e) = PROCESSES['vp'], pair()
  x_t = processes.noised(process, x, e, T)
  step = 1e-3
  ahead, behind = (processes.noised(process, x, e, T + s) for s in (step, -step))
  found = denoisers.flow(process, x, x_t, T)
  np.testing.assert_allclose(found, (ahead - behind) / (2 * step), atol=5e-3)
  np.testing.assert_allclose(
    denoisers.target(denoisers.FLOW, process, x, e, T), found, atol=1e-4
  )


@pytest.mark.parametrize('process', PROCESSES)
def test_edm_has_inputs_and_targets_of_variance_one(process):
  """Whatever the time, for data of the root mean square it is told."""
  process, std = PROCESSES[process], 0.7
  form = denoisers.edm(std)
  x, e = pair(1, (3, 100_000))
  x = std * x
  scaled = form.scale(process, T)[:, None] * processes.noised(process, x, e, T)
  target = denoisers.target(form, process, x, e, T)
  for values in (scaled, target):
    np.testing.assert_allclose(jnp.square(values).mean(axis=1), 1.0, rtol=0.02)


def test_edm_is_the_table_of_its_paper():
  """Karras et al., 2022, table 1, at sigma = 3 and data of deviation 1/2."""
  form, process, t = denoisers.edm(0.5), PROCESSES['edm'], jnp.array([3.0])
  found = [float(f(process, t)[0]) for f in form]
  whole = 9 + 0.25
  expected = [0.25 / whole, 1.5 / whole**0.5, whole**-0.5, np.log(3.0) / 4]
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def gaussian(process, mean, var):
  """E[x | x_t] of N(mean, var)."""

  def denoise(x_t, t):
    alpha, sigma = (processes.along(f(t), x_t) for f in (process.alpha, process.sigma))
    gain = alpha * var / (alpha**2 * var + sigma**2)
    return mean + gain * (x_t - alpha * mean)

  return denoise


def test_the_score_is_that_of_the_noisy_gaussian():
  process, mean, var = PROCESSES['vp'], 0.5, 0.3
  x_t = pair()[0]
  denoised = gaussian(process, mean, var)(x_t, T)
  alpha, sigma = process.alpha(T)[:, None], process.sigma(T)[:, None]
  expected = -(x_t - alpha * mean) / (alpha**2 * var + sigma**2)
  np.testing.assert_allclose(
    denoisers.score(process, denoised, x_t, T), expected, rtol=1e-4, atol=1e-4
  )


def test_guidance_is_a_line_through_both_and_only_in_its_interval():
  process = PROCESSES['edm']
  strong, weak = gaussian(process, 1.0, 0.1), gaussian(process, 0.0, 1.0)
  x_t, t = pair()[0], jnp.array([0.1, 1.0, 10.0])
  a, b = strong(x_t, t), weak(x_t, t)
  for weight in (0.0, 1.0, 3.0):
    found = denoisers.guided(strong, weak, weight, process)(x_t, t)
    np.testing.assert_allclose(found, b + weight * (a - b), rtol=1e-5, atol=1e-5)
  found = denoisers.guided(strong, weak, 3.0, process, (0.5, 2.0))(x_t, t)
  expected = jnp.where(jnp.array([0, 1, 0])[:, None] > 0, b + 3.0 * (a - b), a)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_classifier_turns_a_prior_into_its_posterior():
  """N(0, 1) by a classifier whose likelihood is a Gaussian's of the noisy data."""
  process, t = PROCESSES['vp'], T
  class_ = gaussian(process, 1.0, 0.25)  # p(x | c)
  prior = gaussian(process, 0.0, 1.0)
  x_t = pair()[0]

  def gradient(x_t, t):  # of log p(c | x_t), the difference of both scores
    scores = (denoisers.score(process, d(x_t, t), x_t, t) for d in (class_, prior))
    return next(scores) - next(scores)

  found = denoisers.classifier_guided(prior, gradient, 1.0, process)(x_t, t)
  np.testing.assert_allclose(found, class_(x_t, t), rtol=1e-3, atol=1e-3)


def test_a_network_is_scaled_and_told_its_number():
  process, form = PROCESSES['edm'], denoisers.edm(0.5)
  x_t, t = pair()[0], jnp.array([0.1, 1.0, 10.0])

  def network(x, number):
    return x + number[:, None]

  scale = form.scale(process, t)[:, None]
  output = scale * x_t + (jnp.log(t) / 4)[:, None]
  expected = denoisers.data(form, process, output, x_t, t)
  found = denoisers.denoiser(network, process, form)(x_t, t)
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_deviation_of_nothing_is_refused():
  with pytest.raises(ValueError, match='data_std must be > 0, got 0'):
    denoisers.edm(0.0)
