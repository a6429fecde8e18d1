"""Losses of translation: by hand, by finite differences, of two data sets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from gm_jax.losses import likelihood, translation

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(2, 3, 4, 4, 2))
LOGITS, DOMAIN = 2 * RNG.normal(size=(4, 5)), np.array([0, 1, 2, 4])


def test_the_error_is_a_mean_over_an_examples_numbers():
  found = translation.absolute_error(X, Y)
  expected = [np.abs(x - y).sum() / 32 for x, y in zip(X, Y, strict=True)]
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  np.testing.assert_array_equal(translation.absolute_error(X, X), 0)
  # Of twice the size in each direction it is what it was.
  large = (a.repeat(2, axis=1).repeat(2, axis=2) for a in (X, Y))
  np.testing.assert_allclose(translation.absolute_error(*large), found, rtol=1e-6)
  # An image that is nothing like the other is 2 away, and no more.
  assert translation.absolute_error(-np.ones((1, 3)), np.ones((1, 3))) == 2


def test_the_error_of_what_is_the_same_has_no_slope():
  slope = jax.grad(lambda y: translation.absolute_error(X, y).sum())
  same = jnp.asarray(X, jnp.float32)
  np.testing.assert_array_equal(slope(same), 0)
  part = same.at[1, 0].add(1.0)
  np.testing.assert_allclose(slope(part), (part != same) / 32)


def test_the_cross_entropy_of_one_data_set_is_the_textbooks():
  p = special.softmax(LOGITS, axis=1)
  found = translation.domain_classification(LOGITS, DOMAIN)
  np.testing.assert_allclose(found, -np.log(p[np.arange(4), DOMAIN]), rtol=1e-5)
  np.testing.assert_allclose(
    found, -likelihood.categorical(jnp.asarray(LOGITS), jnp.asarray(DOMAIN)), rtol=1e-6
  )


def test_domains_of_another_data_set_are_left_out_and_have_no_gradient():
  def loss(logits):
    return translation.domain_classification(logits, DOMAIN, sizes=(2, 3))

  blocks = [slice(0, 2), slice(0, 2), slice(2, 5), slice(2, 5)]
  expected = [
    special.logsumexp(row[block]) - row[c]
    for row, block, c in zip(LOGITS, blocks, DOMAIN, strict=True)
  ]
  np.testing.assert_allclose(loss(LOGITS), expected, rtol=1e-5)
  slope = np.asarray(jax.grad(lambda a: loss(a).sum())(jnp.asarray(LOGITS)))
  assert (slope[:2, 2:] == 0).all() and (slope[2:, :2] == 0).all()
  assert (np.abs(slope).sum(axis=1) > 0).all()
  # A data set of a single domain has nothing to be told apart.
  alone = translation.domain_classification(LOGITS, np.full(4, 4), sizes=(4, 1))
  np.testing.assert_allclose(alone, 0, atol=1e-7)


@pytest.mark.parametrize('sizes', [None, (2, 3)])
def test_gradients_are_finite_differences(sizes):
  def loss(logits):
    return translation.domain_classification(logits, DOMAIN, sizes=sizes).sum()

  step, direction = 1e-6, RNG.normal(size=LOGITS.shape)
  with jax.enable_x64(True):
    slope = jnp.vdot(jax.grad(loss)(jnp.asarray(LOGITS)), direction)
    ends = [loss(jnp.asarray(LOGITS + s * direction)) for s in (step, -step)]
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * step), rtol=1e-7)
    slope = jax.grad(lambda y: translation.absolute_error(X, y).sum())(jnp.asarray(Y))
    np.testing.assert_allclose(slope, np.sign(Y - X) / 32, rtol=1e-12)


def test_large_logits_are_finite_with_their_gradients():
  logits = jnp.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]])
  value, slope = jax.value_and_grad(
    lambda a: translation.domain_classification(
      a, jnp.array([0, 0]), sizes=(2, 1)
    ).sum()
  )(logits)
  np.testing.assert_allclose(value, 2e4)
  np.testing.assert_allclose(slope, [[0, 0, 0], [-1, 1, 0]])


def test_jit_and_vmap_change_nothing():
  for loss, args in (
    (translation.absolute_error, (X, Y)),
    (translation.domain_classification, (LOGITS, DOMAIN)),
  ):
    whole = loss(*args)
    np.testing.assert_allclose(jax.jit(loss)(*args), whole, rtol=1e-6)
    one = jax.vmap(lambda *a, loss=loss: loss(*(b[None] for b in a))[0])
    np.testing.assert_allclose(one(*map(jnp.asarray, args)), whole, rtol=1e-6)


@pytest.mark.parametrize(
  ('call', 'word'),
  [
    (lambda: translation.absolute_error(X, Y[:2]), 'one shape'),
    (lambda: translation.absolute_error(1.0, 2.0), 'one shape'),
    (lambda: translation.domain_classification(LOGITS[0], DOMAIN), r'\[B, K\]'),
    (lambda: translation.domain_classification(LOGITS, DOMAIN[:, None]), r'\[B\]'),
    (lambda: translation.domain_classification(LOGITS, DOMAIN + 1), 'from 0 to 4'),
    (lambda: translation.domain_classification(LOGITS, 1.0 * DOMAIN), 'integers'),
    (lambda: translation.domain_classification(LOGITS, DOMAIN, sizes=(2, 2)), 'sum 5'),
    (lambda: translation.domain_classification(LOGITS, DOMAIN, sizes=(5, 0)), 'sum 5'),
  ],
)
def test_what_does_not_fit_is_refused(call, word):
  with pytest.raises(ValueError, match=word):
    call()
