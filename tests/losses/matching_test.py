"""Matching-aware losses: by hand, their optimum by enumeration, the conditioning KL."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from gm_jax.losses import matching, variational

LOGITS = np.array([[0.3, -2.0, 5.0], [-1.0, 0.5, 2.0], [4.0, -0.1, 0.0]])


@pytest.mark.parametrize('mismatch', [0.0, 0.5, 0.8, 1.0])
def test_discriminator_is_three_cross_entropies(mismatch):
  p = special.expit(LOGITS)  # probabilities of 1
  one = -np.log(p[0]) - mismatch * np.log(1 - p[1]) - (1 - mismatch) * np.log(1 - p[2])
  found = matching.discriminator(*LOGITS, mismatch=mismatch)
  np.testing.assert_allclose(found, one, rtol=2e-6)


def test_generator_of_interpolations_weighs_two_thirds_and_one_third():
  fake, between = np.array([0.5, -1.0, 2.0, 0.0]), np.array([3.0, -2.0])
  found = matching.generator(fake, between).mean()
  means = [-np.log(special.expit(x)).mean() for x in (fake, between)]
  np.testing.assert_allclose(found, 2 / 3 * means[0] + 1 / 3 * means[1], rtol=1e-6)
  np.testing.assert_allclose(matching.generator(fake).mean(), means[0], rtol=1e-6)


def test_the_best_critic_of_a_discrete_world_is_the_ratio_that_the_module_states():
  rng = np.random.default_rng(0)
  p, q = (rng.dirichlet(np.ones(12)).reshape(4, 3) for _ in range(2))  # x by t
  apart, w = p.sum(1, keepdims=True) * p.sum(0), 0.3
  best = np.log(p) - np.log(w * apart + (1 - w) * q)

  def value(critic):  # every pair (x, t) by its mass, exactly
    flat = critic.ravel()
    none = jnp.full(flat.shape, -jnp.inf)  # a logit that costs nothing
    parts = (
      (p, (flat, none, none)),
      (apart, (-none, flat, none)),
      (q, (-none, none, flat)),
    )
    each = [m.ravel() * matching.discriminator(*x, mismatch=w) for m, x in parts]
    return sum(each).sum()

  with jax.enable_x64(True):
    gradient = jax.grad(value)(jnp.asarray(best))
    assert np.abs(gradient).max() < 1e-12
    for seed in range(5):
      moved = best + 0.1 * np.random.default_rng(seed).normal(size=best.shape)
      assert value(jnp.asarray(moved)) > value(jnp.asarray(best))


def test_conditioning_kl_is_the_textbooks_over_the_dimensions_and_monte_carlo():
  rng = np.random.default_rng(1)
  mean, log_std = rng.normal(size=(3, 5)), 0.3 * rng.normal(size=(3, 5))
  found = matching.conditioning_kl(mean, log_std)
  textbook = variational.standard_normal_kl(mean, log_std)
  np.testing.assert_allclose(found, textbook / 5, rtol=1e-6)
  # The formula of the published code.
  code = (-log_std + 0.5 * (np.exp(2 * log_std) + mean**2 - 1)).mean(axis=1)
  np.testing.assert_allclose(found, code, rtol=1e-5)
  noise = rng.normal(size=(200_000, 3, 5))
  c = mean + np.exp(log_std) * noise
  ratio = (-(noise**2) / 2 - log_std + c**2 / 2).mean(axis=2)
  error = ratio.std(axis=0) / np.sqrt(len(ratio))
  assert (np.abs(ratio.mean(axis=0) - found) < 5 * error).all()
  assert (matching.conditioning_kl(np.zeros((2, 3)), np.zeros((2, 3))) == 0).all()


@pytest.mark.parametrize(
  ('call', 'word'),
  [
    (lambda: matching.discriminator(*LOGITS, mismatch=1.5), 'mismatch must be'),
    (lambda: matching.discriminator(LOGITS[0], LOGITS[1], LOGITS[2][:2]), 'same B'),
    (lambda: matching.generator(LOGITS), r'must be \[B\]'),
    (lambda: matching.generator(LOGITS[0], LOGITS), r'must be \[B\]'),
    (lambda: matching.conditioning_kl(LOGITS[0], LOGITS[0]), r'must be \[B, K\]'),
  ],
)
def test_wrong_shapes_are_refused(call, word):
  with pytest.raises(ValueError, match=word):
    call()
