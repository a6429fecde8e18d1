"""Several discriminators and adaptive augmentation, against their formulas."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compiled import compiled

from gm_jax import augmentation, priors
from gm_jax.losses import adversarial, f_divergence
from gm_jax.methods import ada_gan, d2gan, f_gan, gan, gman
from gm_jax.models import mlp, remedies

P, Q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
KL, REVERSE = (P * np.log(P / Q)).sum(), (Q * np.log(Q / P)).sum()
RATE = 0.1
X = 1.0 + jax.random.normal(jax.random.key(0), (8, 2))
Z = jax.random.normal(jax.random.key(1), (8, 3))
fixed_prior = lambda key, num: Z[:num]  # noqa: E731


def inverse_softplus(y):
  return jnp.log(jnp.expm1(y))


@pytest.mark.parametrize(('alpha', 'beta'), [(1.0, 1.0), (0.2, 0.1)])
def test_d2gans_best_critics_and_their_value(alpha, beta):
  best = inverse_softplus(alpha * P / Q), inverse_softplus(beta * Q / P)
  expected = alpha * (np.log(alpha) - 1) + beta * (np.log(beta) - 1)
  expected += alpha * KL + beta * REVERSE
  pairs = d2gan.value(best[0], best[0], best[1], best[1], alpha=alpha, beta=beta)
  parts = alpha * np.log(alpha * P / Q) - alpha * P / Q - beta * Q / P
  np.testing.assert_allclose(pairs, parts + beta * np.log(beta * Q / P), rtol=1e-4)
  np.testing.assert_allclose(j_of(*best, alpha, beta), expected, rtol=1e-5)
  for slope in jax.grad(lambda one, two: j_of(one, two, alpha, beta), (0, 1))(*best):
    np.testing.assert_allclose(slope, 0, atol=1e-5)


def j_of(one, two, alpha, beta):
  """J on three points, where expectations are sums."""
  of_p = alpha * d2gan.log_softplus(one) - jax.nn.softplus(two)
  of_q = beta * d2gan.log_softplus(two) - jax.nn.softplus(one)
  return (P * of_p + Q * of_q).sum()


def test_log_softplus_far_from_zero():
  v = jnp.array([-1e4, -50.0, -15.5, -14.5, 0.0, 30.0, 1e4])
  with jax.enable_x64(True):
    exact = np.log(np.log1p(np.exp(np.array([-15.5, -14.5, 0.0, 30.0]))))
  np.testing.assert_allclose(d2gan.log_softplus(v)[2:6], exact, rtol=1e-6)
  np.testing.assert_allclose(d2gan.log_softplus(v)[:2], v[:2])
  np.testing.assert_allclose(d2gan.log_softplus(v)[-1], np.log(1e4), rtol=1e-6)
  slopes = jax.vmap(jax.grad(d2gan.log_softplus))(v)
  assert np.isfinite(slopes).all()
  np.testing.assert_allclose(slopes[:2], 1, rtol=1e-6)


def linear(weights, x):
  return x @ weights['Dense_0']['kernel'] + weights['Dense_0']['bias']


def descend(weights, loss):
  def moved(weights):
    return jax.tree.map(lambda p, d: p - RATE * d, weights, jax.grad(loss)(weights))

  return jax.jit(moved)(weights)


def test_a_step_of_d2gan():
  sgd = optax.sgd(RATE)
  method = compiled(d2gan.d2gan(
    mlp.MLP((2,)), mlp.MLP((1,)), mlp.MLP((1,)), sgd, sgd, sgd, prior=fixed_prior,
    alpha=0.5, beta=0.25,
  ))  # fmt: skip
  state = method.init(jax.random.key(2), {'x': X})
  after, _ = method.step(state, jax.random.key(3), {'x': X})
  names = 'generator', 'discriminator', 'reverse_discriminator'
  g, one, two = (state.params[name] for name in names)

  def j(one, two, g):
    softplus = lambda d, x: jnp.log1p(jnp.exp(linear(d, x)))  # noqa: E731
    fake = linear(g, Z)
    first = 0.5 * jnp.log(softplus(one, X)).mean() - softplus(one, fake).mean()
    return first - softplus(two, X).mean() + 0.25 * jnp.log(softplus(two, fake)).mean()

  new_one = descend(one, lambda one: -j(one, two, g))
  new_two = descend(two, lambda two: -j(one, two, g))
  new_g = descend(g, lambda g: j(new_one, new_two, g))
  expected = dict(zip(names, (new_g, new_one, new_two), strict=True))
  chex.assert_trees_all_close(after.params, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('weights', [{'alpha': 0.0}, {'beta': 1.5}])
def test_d2gans_weights_are_in_the_unit_interval(weights):
  with pytest.raises(ValueError, match=r'must be in \(0, 1\]'):
    d2gan.d2gan(*[None] * 6, prior=fixed_prior, **weights)


def test_softmax_weights_go_from_the_mean_to_the_largest():
  losses = jnp.array([0.3, -1.0, 0.7])
  combined = [gman.softmax_weighted(s)(losses) for s in (0.0, 1.0, 5.0, 1e3)]
  np.testing.assert_allclose(combined[0], gman.mean(losses), atol=1e-7)
  np.testing.assert_allclose(combined[-1], gman.maximum(losses), rtol=1e-6)
  assert np.all(np.diff(combined) > 0)
  weights = np.exp(losses) / np.exp(losses).sum()
  np.testing.assert_allclose(combined[1], (weights * losses).sum(), rtol=1e-6)
  with pytest.raises(ValueError, match='strength must be >= 0'):
    gman.softmax_weighted(-1.0)


@pytest.mark.parametrize('combine', [gman.mean, gman.maximum, gman.softmax_weighted(2)])
def test_a_step_of_gman(combine):
  sgd = optax.sgd(RATE)
  method = compiled(gman.gman(
    mlp.MLP((2,)), mlp.MLP((1,)), sgd, sgd, prior=fixed_prior, num_discriminators=3,
    combine=combine, game=adversarial.NON_SATURATING,
  ))  # fmt: skip
  state = method.init(jax.random.key(2), {'x': X})
  after, _ = method.step(state, jax.random.key(3), {'x': X})
  g, critics = state.params['generator'], state.params['discriminator']
  one_of = lambda i: jax.tree.map(lambda p: p[i], critics)  # noqa: E731
  kernels = critics['Dense_0']['kernel']
  assert float(jnp.abs(kernels[0] - kernels[1]).max()) > 0.01  # begun apart

  def d_loss(d):
    real, fake = linear(d, X), linear(d, linear(g, Z))
    return jnp.log1p(jnp.exp(-real)).mean() + jnp.log1p(jnp.exp(fake)).mean()

  new = [descend(one_of(i), d_loss) for i in range(3)]

  def g_loss(g):
    each = [jnp.log1p(jnp.exp(-linear(d, linear(g, Z)))).mean() for d in new]
    return combine(jnp.stack(each))

  expected = jax.tree.map(lambda *ps: jnp.stack(ps), *new)
  chex.assert_trees_all_close(after.params['discriminator'], expected, rtol=1e-4)
  chex.assert_trees_all_close(
    after.params['generator'], descend(g, g_loss), rtol=1e-4, atol=1e-6
  )


def test_gman_of_none_is_refused():
  with pytest.raises(ValueError, match='num_discriminators must be >= 1'):
    gman.gman(*[None] * 4, prior=fixed_prior, num_discriminators=0)


class Flat(mlp.MLP):
  """Images from latents: a pixel each."""

  def __call__(self, z, *, train=False):
    return super().__call__(z, train=train).reshape(-1, 2, 2, 1)


def test_strength_follows_the_sign_of_what_the_critic_is_sure_of():
  images = jax.random.normal(jax.random.key(4), (8, 2, 2, 1))
  critic = remedies.AdaptivelyAugmented(mlp.MLP((1,)), augmentation.brightness)
  still = optax.sgd(0.0)  # the critic stays as it is
  method = compiled(
    ada_gan.ada_gan(
      Flat((4,)), critic, still, still, prior=priors.normal(3), target=0.6, rate=0.25
    )
  )
  state = method.init(jax.random.key(5), {'x': images})
  strengths = []
  for bias in (50.0, 50.0, 50.0, 50.0, 50.0, -50.0, -50.0):  # sure of the data, or not
    params = state.params['discriminator']
    dense = params['critic']['Dense_0'] | {'bias': jnp.full(1, bias)}
    state.params['discriminator'] = {'critic': {'Dense_0': dense}}
    state, metrics = method.step(state, jax.random.key(6), {'x': images})
    assert metrics['strength'] == remedies.strength_of(state.extra, 'discriminator')
    strengths.append(float(metrics['strength']))
  assert strengths == [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5]


def test_ada_needs_a_critic_with_a_strength():
  method = ada_gan.ada_gan(
    mlp.MLP((2,)), mlp.MLP((1,)), optax.sgd(1.0), optax.sgd(1.0),
    prior=fixed_prior, rate=0.1,
  )  # fmt: skip
  with pytest.raises(ValueError, match='AdaptivelyAugmented'):
    method.init(jax.random.key(0), {'x': X})
  for wrong in ({'target': 1.0, 'rate': 0.1}, {'rate': 0.0}):
    with pytest.raises(ValueError, match='must be'):
      ada_gan.ada_gan(*[None] * 4, prior=fixed_prior, **wrong)


def test_the_f_gan_of_gans_divergence_is_the_minimax_gan():
  parts = mlp.MLP((2,)), mlp.MLP((4, 1)), optax.sgd(RATE), optax.sgd(RATE)
  saddle = f_divergence.saddle_generator
  ours = f_gan.f_gan(
    *parts, divergence=f_divergence.GAN, generator_loss=saddle, prior=fixed_prior
  )
  theirs = gan.gan(*parts, game=adversarial.MINIMAX, prior=fixed_prior)
  state = ours.init(jax.random.key(7), {'x': X})
  found, expected = (
    compiled(method).step(state, jax.random.key(8), {'x': X})[0]
    for method in (ours, theirs)
  )
  chex.assert_trees_all_close(found.params, expected.params, rtol=1e-5)
