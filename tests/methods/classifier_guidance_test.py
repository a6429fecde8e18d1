"""Classifier guidance: the exact parts give the conditional of each class."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gm_jax import base, denoisers, processes
from gm_jax.methods import classifier_guidance

KEY = jax.random.key(0)
MEANS, VAR = jnp.array([-1.0, 0.5, 2.0]), 0.2  # of three classes, equally frequent
STD = float(jnp.sqrt(jnp.mean(MEANS**2) + VAR))
PROCESS, FORM = processes.edm(), denoisers.edm(STD)


def logits(x_t, sigma):
  """Of the classes of x_t `[B, 1]`: log N(x_t; m_c, VAR + sigma^2)."""
  return -0.5 * (x_t - MEANS) ** 2 / (VAR + sigma[:, None] ** 2)


def of_class(x_t, sigma):
  """E[x | x_t, c], `[B, C]`."""
  square = sigma[:, None] ** 2
  return (VAR * x_t + square * MEANS) / (VAR + square)


class Exact(nn.Module):
  """The denoiser of the mixture, or its classifier, at a network's inputs."""

  gives: str

  @nn.compact
  def __call__(self, x, t, condition=None, *, train=False):
    unused = self.param('unused', nn.initializers.zeros, ())
    sigma = PROCESS.time(-8.0 * t)
    x_t = x / processes.along(FORM.scale(PROCESS, sigma), x)
    found = logits(x_t, sigma)
    if self.gives == 'logits':
      return found + unused
    best = jnp.sum(jax.nn.softmax(found) * of_class(x_t, sigma), axis=1, keepdims=True)
    skip, out = (processes.along(f(PROCESS, sigma), x) for f in (FORM.skip, FORM.out))
    return (best - skip * x_t) / out + unused


METHOD = classifier_guidance.classifier_guidance(
  Exact('data'), Exact('logits'), optax.sgd(0.0), shape=(1,), num_classes=3,
  data_std=STD,
)  # fmt: skip


def batch(num):
  label = jax.random.randint(KEY, (num,), 0, 3)
  noise = jax.random.normal(jax.random.key(1), (num, 1))
  return {'x': MEANS[label][:, None] + jnp.sqrt(VAR) * noise, 'label': label}


STATE = METHOD.init(KEY, batch(4))
MODEL = base.Model(STATE.params, STATE.extra)


def test_the_guided_score_is_that_of_the_class():
  """-(x_t - m_c) / (VAR + sigma^2), at every noise level, of exact parts."""
  x_t, sigma = jnp.linspace(-3, 4, 6)[:, None], jnp.geomspace(0.05, 20.0, 6)
  for label in range(3):
    found = METHOD.queries['score'](
      MODEL, KEY, x_t, sigma, condition=jnp.full(6, label)
    )
    expected = -(x_t - MEANS[label]) / (VAR + sigma[:, None] ** 2)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


def test_samples_of_a_class_are_its_own_and_of_none_the_mixtures():
  num = 6000
  draw = jax.jit(lambda key, label: METHOD.sample(MODEL, key, num, condition=label))
  label = jnp.arange(num) % 3
  x = np.asarray(draw(jax.random.key(2), label))[:, 0].reshape(-1, 3)
  error = np.sqrt(VAR / len(x))
  np.testing.assert_allclose(x.mean(axis=0), MEANS, atol=4 * error)
  np.testing.assert_allclose(x.var(axis=0), VAR, rtol=0.13)
  x = np.asarray(draw(jax.random.key(2), None))
  assert abs(x.mean() - MEANS.mean()) < 4 * x.std() / np.sqrt(num)
  np.testing.assert_allclose(x.var(), MEANS.var() + VAR, rtol=0.08)


def test_completions_are_draws_of_the_class_where_nothing_is_known():
  """By `particles`, all of the same weight then, in small steps."""
  x = jnp.zeros((3, 1))
  options = {'observed': jnp.zeros(x.shape, bool), 'condition': jnp.arange(3)}

  def impute(key, **more):
    return METHOD.queries['impute'](MODEL, key, x, num=1500, **options, **more)

  small = {'num_steps': 200, 'num_particles': 1}
  run = jax.jit(lambda key: impute(key, inpainter='particles', **small))
  out = np.asarray(run(jax.random.key(3)))[..., 0]
  error = np.sqrt(VAR / len(out))
  np.testing.assert_allclose(out.mean(axis=0), MEANS, atol=4 * error)
  np.testing.assert_allclose(out.var(axis=0), VAR, rtol=0.2)
  with pytest.raises(ValueError, match="from no weaker model: weak = 'earlier'"):
    impute(KEY, weak='earlier')


def test_outside_an_interval_the_classifier_has_no_say():
  """Guidance between ratios 100 and 200, where there is no step: the mixture's mean."""
  run = jax.jit(
    lambda key: METHOD.sample(
      MODEL, key, 3000, condition=jnp.zeros(3000, int), low=100.0, high=200.0
    )
  )
  x = np.asarray(run(jax.random.key(2)))
  assert abs(x.mean() - MEANS.mean()) < 4 * x.std() / np.sqrt(len(x))


@pytest.mark.slow
def test_both_losses_are_those_of_exact_parts():
  """The cross entropy is the mean entropy of the exact posterior."""
  data = batch(20_000)
  _, metrics = jax.jit(METHOD.step)(STATE, jax.random.key(4), data)
  rng = np.random.default_rng(0)
  sigma = np.exp(-1.2 + 1.2 * rng.normal(size=(20_000,)))
  noise = sigma[:, None] * rng.normal(size=data['x'].shape)
  logs = jax.nn.log_softmax(logits(data['x'] + noise, sigma))
  expected = -jnp.sum(jnp.exp(logs) * logs, axis=1).mean()
  np.testing.assert_allclose(metrics['cross_entropy'], expected, rtol=0.04)
  np.testing.assert_allclose(
    metrics['loss'], metrics['error'] + metrics['cross_entropy'], rtol=1e-6
  )
  right = np.argmax(logs, axis=1) == data['label']
  np.testing.assert_allclose(metrics['accuracy'], right.mean(), atol=0.01)


def test_what_does_not_fit_is_one_line():
  with pytest.raises(ValueError, match='a condition for 2 examples'):
    METHOD.sample(MODEL, KEY, 2, condition=jnp.zeros(3, int))
  with pytest.raises(ValueError, match="needs 'label' in its batches"):
    METHOD.step(STATE, KEY, {'x': jnp.zeros((4, 1))})
